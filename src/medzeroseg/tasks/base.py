"""What every task shares: optimisation, guards, and checkpoints that know what they hold."""

from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities import GradClipAlgorithmType
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from medzeroseg.checkpoints import require_same_architecture, require_same_groups
from medzeroseg.errors import CheckpointError, ConfigurationError, NonFiniteGradientError, NonFiniteLossError
from medzeroseg.parameter_groups import Group, parameter_groups, scale_learning_rates
from medzeroseg.schedules import LRSchedule
from medzeroseg.tasks.performance import Part, Performance

MAX_SKIPPED_STEPS = 20
"""So many steps in a row may have gradients that are not finite where a scaler (16-mixed) skips them.

It halves its scale each time, from 65536: a gradient that fits into 16 bits at all is found long before.
"""


class BaseTask(LightningModule):
    """Base of the tasks.

    Args:
        optimizer: Makes the optimizer from parameter groups. Biases, norms, temperatures and other parameters of
            fewer than two dimensions get no weight decay.
        lr_schedule: Makes the learning-rate schedule from the optimizer and the number of steps; None: constant.
        performance: How the network is computed; None: as torch does it by default.
    """

    def __init__(
        self,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=1e-4),
        lr_schedule: LRSchedule | None = None,
        performance: Performance | None = None,
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.lr_schedule = lr_schedule
        self.performance = performance or Performance()
        #: What this run was configured with (`model`, `data`, `trainer`), plain values; kept in checkpoints so that
        #: they can be opened without their experiment file. Empty when the task was built in Python.
        self.config: dict[str, Any] = {}
        self._cases: list[object] = []
        self._skipped = 0  # steps in a row

    def parameter_groups(self) -> list[Group]:
        """What the optimizer trains: all that is not frozen, in two groups by weight decay."""
        return parameter_groups(self.named_parameters())

    def parts_to_compile(self) -> list[Part]:
        """Modules that `performance.compile` compiles, each by itself."""
        return []

    def configure_model(self) -> None:
        """Lay out the weights; Lightning calls this when the parts are there and before ranks share them."""
        self.performance.lay_out(self)

    def on_fit_start(self) -> None:
        """Compile for the training."""
        self.performance.start(self.parts_to_compile())

    def on_fit_end(self) -> None:
        """Compile no more."""
        self.performance.stop(self.parts_to_compile())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimizer and schedule for the length of this run.

        Raises:
            ConfigurationError: Gradients are to be clipped where a fused optimizer does not allow it.
        """
        optimizer = self.optimizer(self.parameter_groups())
        scale_learning_rates(optimizer.param_groups)
        if optimizer.defaults.get("fused") and self._scaler() is not None and self.trainer.gradient_clip_val:
            raise ConfigurationError(
                f"A fused optimizer cannot clip gradients in {self.trainer.precision}: "
                "add --model.init_args.optimizer.init_args.fused=false"
            )
        if self.lr_schedule is None:
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.lr_schedule(optimizer, steps), "interval": "step"},
        }

    def on_train_batch_start(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Keep the names of the step's cases, for the message if one breaks the gradients."""
        every: int = self.trainer.accumulate_grad_batches
        if batch_idx % every == 0:
            self._cases = []
        self._cases += batch.get("case_id", [])

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stop before broken gradients reach the weights; log their global norm, before clipping and after unscaling.

        Raises:
            NonFiniteGradientError: With the case ids of the step's batches, and the parameters. Where a scaler skips
                such steps, after `MAX_SKIPPED_STEPS` in a row.
        """
        gradients = {name: p.grad for name, p in self.named_parameters() if p.grad is not None}
        norm = nn.utils.get_total_norm(gradients.values())
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning
        if self.trainer.global_step % every == 0:
            self.log("train/grad_norm", norm)
        if torch.isfinite(norm):
            self._skipped = 0
            return
        # a scaler (16-mixed) skips such steps by itself, and meets them while it searches for its scale
        self._skipped += 1
        if self._scaler() is None or self._skipped >= MAX_SKIPPED_STEPS:
            broken = [name for name, gradient in gradients.items() if not gradient.isfinite().all()]
            named = ", ".join(broken[:3]) + (f" and {len(broken) - 3} more" if len(broken) > 3 else "")
            what = f"A gradient is not finite (in {named})" if broken else "The gradients' norm is not finite"
            lasts = "" if self._scaler() is None else f", for {self._skipped} steps in a row that were all skipped,"
            raise NonFiniteGradientError(self._broken(what + lasts, self._cases))

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """As Lightning does, and for fused optimizers in bfloat16, too.

        Lightning refuses those in all mixed precision, since they undo a scaler's scale themselves, after the clipping.
        Bfloat16 has no scaler.
        """
        mixed = isinstance(self.trainer.precision_plugin, MixedPrecision)
        if mixed and self._scaler() is None and optimizer.defaults.get("fused"):
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision().clip_gradients(optimizer, gradient_clip_val or 0.0, algorithm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def _scaler(self) -> torch.amp.GradScaler | None:
        return getattr(self.trainer.precision_plugin, "scaler", None)

    def require_finite(self, loss: Tensor, batch: dict[str, Any], batch_idx: int) -> None:
        """Stop before a broken loss reaches the weights.

        Raises:
            NonFiniteLossError: With the case ids of the batch, and where the last good checkpoint lies.
        """
        if not torch.isfinite(loss):
            stage = "training" if self.trainer.training else "validation"
            raise NonFiniteLossError(self._broken(f"The {stage} loss is {loss.item()}", batch["case_id"], batch_idx))

    def _broken(self, what: str, cases: Iterable[object], batch_idx: int | None = None) -> str:
        written = [getattr(callback, "best_model_path", "") for callback in self.trainer.checkpoint_callbacks]
        batch = "" if batch_idx is None else f", batch {batch_idx}"
        return (
            f"{what} at epoch {self.current_epoch}, step {self.global_step}{batch}.\n"
            f"Cases of the batch: {', '.join(map(str, cases))}\n"
            f"The checkpoints before it are untouched: {', '.join(filter(None, written)) or 'none was written yet'}\n"
            "Look at these cases, lower the learning rate, or train with --trainer.precision=32-true."
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the run's configuration beside its weights."""
        checkpoint["config"] = self.config

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another architecture, by name and shape, and trainings that went otherwise.

        Raises:
            CheckpointError: Keys or shapes differ; or a training is to go on that trained other parameters, or whose
                averaged weights nobody would go on with.
        """
        require_same_architecture(checkpoint, self.state_dict())
        if self._trainer is None or self.trainer.state.fn != "fit":
            return
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning
        averaged = any(isinstance(callback, WeightAveraging) for callback in callbacks)
        if "current_model_state" in checkpoint and not averaged:
            raise CheckpointError(
                "The checkpoint is of a training with averaged weights; it goes on with callbacks.WeightAverage only."
            )
        require_same_groups(checkpoint, self.parameter_groups())
