"""What every task shares: optimisation, guards, and checkpoints that know what they hold."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities import grad_norm
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from medzeroseg.checkpoints import require_same_architecture
from medzeroseg.errors import ConfigurationError, NonFiniteLossError
from medzeroseg.schedules import LRSchedule


class BaseTask(LightningModule):
    """Base of the tasks.

    Args:
        optimizer: Makes the optimizer from parameter groups. Biases, norms, temperatures and other parameters of
            fewer than two dimensions get no weight decay.
        lr_schedule: Makes the learning-rate schedule from the optimizer and the number of steps; None: constant.
    """

    def __init__(
        self,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=1e-4),
        lr_schedule: LRSchedule | None = None,
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.lr_schedule = lr_schedule
        #: What this run was configured with (`model`, `data`, `trainer`), plain values; kept in checkpoints so that
        #: they can be opened without their experiment file. Empty when the task was built in Python.
        self.config: dict[str, Any] = {}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build optimizer and schedule for the length of this run.

        Raises:
            ConfigurationError: Gradients are to be clipped where a fused optimizer does not allow it.
        """
        optimizer = self.optimizer(parameter_groups(self.named_parameters()))
        mixed = "mixed" in str(self.trainer.precision)
        if optimizer.defaults.get("fused") and mixed and self.trainer.gradient_clip_val:
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

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the global gradient norm, before clipping and after unscaling."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]  # set by Lightning
        if self.trainer.global_step % every == 0:
            self.log("train/grad_norm", grad_norm(self, norm_type=2)["grad_2.0_norm_total"])

    def require_finite(self, loss: Tensor, batch: dict[str, Any], batch_idx: int) -> None:
        """Stop before a broken loss reaches the weights.

        Raises:
            NonFiniteLossError: With the case ids of the batch, and where the last good checkpoint lies.
        """
        if torch.isfinite(loss):
            return
        stage = "training" if self.trainer.training else "validation"
        written = [getattr(callback, "best_model_path", "") for callback in self.trainer.checkpoint_callbacks]
        raise NonFiniteLossError(
            f"The {stage} loss is {loss.item()} at epoch {self.current_epoch}, step {self.global_step}, "
            f"batch {batch_idx}.\n"
            f"Cases of the batch: {', '.join(map(str, batch['case_id']))}\n"
            f"The checkpoints before it are untouched: {', '.join(filter(None, written)) or 'none was written yet'}\n"
            "Look at these cases, lower the learning rate, or train with --trainer.precision=32-true."
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write the run's configuration beside its weights."""
        checkpoint["config"] = self.config

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another architecture, by name and shape.

        Raises:
            CheckpointError: Keys or shapes differ.
        """
        require_same_architecture(checkpoint, self.state_dict())


def parameter_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]], decay: Callable[[nn.Parameter], bool] | None = None
) -> list[dict[str, Any]]:
    """Split trainable parameters into one group with weight decay and one without.

    Args:
        named_parameters: The model's parameters; frozen ones are left out.
        decay: Whether a parameter decays; default: those of two or more dimensions.

    Returns:
        Groups for a torch optimizer; the second sets `weight_decay` to 0. Empty groups are left out.
    """
    decays = decay or (lambda parameter: parameter.ndim >= 2)
    trainable = [parameter for _, parameter in named_parameters if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trainable if decays(p)]},
        {"params": [p for p in trainable if not decays(p)], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
