"""A checkpoint every so many steps, and one more when the training is asked to stop."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from medzeroseg import stop_signals
from medzeroseg.distributed import highest
from medzeroseg.errors import StoppedError
from medzeroseg.slurm import in_job, requeue_job, wait_for_the_end
from medzeroseg.stop_signals import StopRequest


class StepCheckpoint(Callback):
    """Keeps `last.ckpt` young, so that little is computed again after a crash.

    A run that goes on from it ends bit by bit where the unbroken run ends (on a CPU): order and position come from
    `data_modules.loading.EpochDataLoader`, random numbers from `StepSeeds`, all else is in the checkpoint. Between
    steps it also looks whether the process, or another rank's, was asked to stop (`medzeroseg.stop_signals`); then it
    saves, puts a Slurm job back in the queue if that was the request, and ends the training with `StoppedError`.

    Args:
        dirpath: Folder of `last.ckpt`, which is shared with the checkpoint at the end of each epoch.
        every_n_steps: Optimizer steps between two checkpoints; 0 for none but those on request.

    Raises:
        ValueError: `every_n_steps` is negative.
    """

    def __init__(self, dirpath: str, every_n_steps: int = 200) -> None:
        if every_n_steps < 0:
            raise ValueError(f"every_n_steps must be 0 or more, got {every_n_steps}")
        self.path = Path(dirpath) / "last.ckpt"
        self.every_n_steps = every_n_steps
        self._seen = self._saved = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count from here on; Lightning has just registered its own signal handlers."""
        stop_signals.take_over()
        self._seen = self._saved = trainer.global_step

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals back here, too."""
        stop_signals.take_over()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's STEP_OUTPUT
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save if a checkpoint is due or the training is to stop, where Lightning can go on from.

        Raises:
            StoppedError: The training was asked to stop, and the checkpoint is written.
        """
        # In the middle of an accumulation the gradients so far would be lost. After the last batch of an epoch, or one
        # that validation follows, Lightning would leave that validation out.
        stepped, self._seen = trainer.global_step != self._seen, trainer.global_step
        validates = trainer.val_check_batch not in (None, 0) and (batch_idx + 1) % trainer.val_check_batch == 0
        if not stepped or trainer.is_last_batch or validates:
            return
        request = StopRequest(highest(stop_signals.requested(), trainer.strategy.root_device))
        if request or (self.every_n_steps and trainer.global_step - self._saved >= self.every_n_steps):
            trainer.save_checkpoint(self.path)
            self._saved = trainer.global_step
        if request:
            self._stop(trainer, request)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ANN401
        """Stop if that is asked for; what the last checkpoint does not hold is computed again.

        Raises:
            StoppedError: It was asked for.
        """
        # Each rank for itself: they may have different numbers of batches, and must not wait for each other here.
        request = stop_signals.requested()
        if not request:
            return
        if in_job():
            if request is StopRequest.REQUEUE:
                with suppress(StoppedError):  # another rank has done it
                    requeue_job()
            wait_for_the_end()
        stage = "validation" if trainer.validating else "test"
        raise StoppedError(f"Stopped in the {stage}, which will be done again. Go on with RESUME=1.")

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:  # noqa: ANN401
        """Stop here, too.

        Raises:
            StoppedError: It was asked for.
        """
        self.on_validation_batch_end(trainer, pl_module)

    def _stop(self, trainer: Trainer, request: StopRequest) -> None:
        told = "Go on with RESUME=1."
        if in_job() and request is StopRequest.REQUEUE:
            if trainer.is_global_zero:
                requeue_job()
            # The first rank that ends has Slurm end the others: not before the job is back in the queue.
            trainer.strategy.barrier()
            told = "The job is back in the queue."
        elif in_job():
            rank_zero_info(f"SIGTERM: {self.path} holds all up to step {trainer.global_step}; Slurm ends the job.")
            wait_for_the_end()
        raise StoppedError(f"Stopped after step {trainer.global_step}; {self.path} holds all of it. {told}")
