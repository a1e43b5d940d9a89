"""Training speed in samples per second."""

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs `train/samples_per_s` over all ranks, between two logged steps, the loading of data included."""

    def __init__(self) -> None:
        self._samples = 0
        self._since = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restart the clock: validation between epochs is not training."""
        self._samples, self._since = 0, time.perf_counter()

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
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning
        if (batch_idx + 1) % every:
            return
        elapsed = time.perf_counter() - self._since
        pl_module.log("train/samples_per_s", self._samples * trainer.world_size / elapsed, prog_bar=True)
        self._samples, self._since = 0, time.perf_counter()
