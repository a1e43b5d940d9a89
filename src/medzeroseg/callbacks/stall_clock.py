"""Says so when a process has stopped making progress, and where it hangs."""

import os
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from medzeroseg.files import write_atomically


class StallClock(Callback):
    """Reports a rank that has not finished a batch for too long, with the stack of its main thread.

    Where one rank hangs, those that wait for it stand still as well, and each reports: the culprit is the one whose
    stack is not in a collective. The report goes to standard error and to `stall_rank<n>.txt` in the run's folder, once
    a stall. Nothing is ended: a slow disk is no reason to lose a training.

    Args:
        timeout_s: How long nothing may happen, seconds; 0 for never mind.

    Raises:
        ValueError: `timeout_s` is negative.
    """

    def __init__(self, timeout_s: float = 600.0) -> None:
        if timeout_s < 0:
            raise ValueError(f"timeout_s must be 0 or more, got {timeout_s}")
        self.timeout_s = timeout_s
        self._beat = (0.0, "")
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start the clock."""
        if not self.timeout_s or self._thread is not None:
            return
        self._beat = (time.monotonic(), f"before the first batch ({stage})")
        self._over.clear()
        arguments = (Path(trainer.default_root_dir), trainer.global_rank, threading.get_ident())
        self._thread = threading.Thread(target=self._watch, args=arguments, name="stall clock", daemon=True)
        self._thread.start()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop it."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop it: what comes now may take its time."""
        self.teardown(trainer, pl_module, "")

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ANN401 - any batch
        """Note that a batch of training has come."""
        self._note(f"training, epoch {trainer.current_epoch}, batch {batch_idx}")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ANN401
        """Note that it is done."""
        self._note(f"after step {trainer.global_step}, epoch {trainer.current_epoch}")

    def on_validation_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ANN401
        """Note progress in validation."""
        self._note(f"validation at step {trainer.global_step}")

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ANN401
        """Note progress in validation."""
        self._note(f"validation at step {trainer.global_step}")

    def on_test_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ANN401
        """Note progress in the test."""
        self._note("test")

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ANN401
        """Note progress in the test."""
        self._note("test")

    def _note(self, place: str) -> None:
        self._beat = (time.monotonic(), place)

    def _watch(self, folder: Path, rank: int, thread: int) -> None:
        reported = 0.0
        while not self._over.wait(self.timeout_s / 20):
            beat, place = self._beat
            if beat == reported or time.monotonic() - beat < self.timeout_s:
                continue
            reported = beat
            stack = "".join(traceback.format_stack(sys._current_frames()[thread]))
            report = (
                f"rank {rank} on {socket.gethostname()} (pid {os.getpid()}) has not moved for {self.timeout_s:g} s: "
                f"{place}. It is at:\n{stack}"
            )
            print(f"medzeroseg: {report}", file=sys.stderr, flush=True)  # noqa: T201 - no logger may be alive here
            write_atomically(folder / f"stall_rank{rank}.txt", report)
