"""Training speed, waiting for data, and memory."""

import resource
import sys
import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

_GIB = 2**30


class Throughput(Callback):
    """Logs how fast a training is, and what it needs, at the trainer's interval.

    - `train/samples_per_s`: over all ranks, between two logged steps, the loading of data included;
    - `train/data_wait`: share of that time, in [0, 1], between the end of one step and the start of the next, when rank
      0 waits for its batch;
    - `train/memory_gib`: the most memory that rank 0's process has had (its readers have their own), GiB;
    - `train/gpu_memory_gib`: the most that torch has allocated on rank 0's GPU, GiB; only where there is one.
    """

    def __init__(self) -> None:
        self._samples = 0
        self._since = self._ended = 0.0
        self._waited = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restart the clock: validation between epochs is not training."""
        self._restart()

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401 - any batch
        batch_idx: int,
    ) -> None:
        """The batch is here: the waiting is over."""
        self._waited += time.perf_counter() - self._ended

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's STEP_OUTPUT
        batch: dict[str, Any],
        batch_idx: int,
    ) -> None:
        """Count the batch; log at the trainer's interval."""
        self._samples += len(batch["image"])
        self._ended = time.perf_counter()
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning
        if (batch_idx + 1) % every:
            return
        elapsed = self._ended - self._since
        pl_module.log("train/samples_per_s", self._samples * trainer.world_size / elapsed, prog_bar=True)
        pl_module.log("train/data_wait", self._waited / elapsed)
        pl_module.log("train/memory_gib", _peak_memory_gib())
        if pl_module.device.type == "cuda":
            pl_module.log("train/gpu_memory_gib", torch.cuda.max_memory_allocated(pl_module.device) / _GIB)
        self._restart()

    def _restart(self) -> None:
        self._samples, self._waited = 0, 0.0
        self._since = self._ended = time.perf_counter()


def _peak_memory_gib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / _GIB  # macOS counts bytes, Linux KiB
