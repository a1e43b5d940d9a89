"""Averaged weights for evaluation: an exponential moving average over the steps."""

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn
from torch.optim.swa_utils import AveragedModel


class MovingAverage(AveragedModel):
    """A copy of a module that follows it: floats that checkpoints hold are averaged, all else in them is copied.

    Constants that they do not hold (attention masks with -inf, tables) stay as they are, and what the module gains on
    the way (metrics of a validation) is not followed.

    Args:
        module: What to follow.
        decay: Share of the average that stays, in [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__(module)
        self.decay = decay

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take a step towards the module; the first one goes all the way."""
        values = model.state_dict()
        pairs = [(own, values[name].to(own.device)) for name, own in self.module.state_dict().items()]
        follows = [own.is_floating_point() and bool(self.n_averaged) for own, _ in pairs]
        moved = [pair for pair, follow in zip(pairs, follows, strict=True) if follow]
        if moved:
            averages, targets = (list(column) for column in zip(*moved, strict=True))
            torch._foreach_lerp_(averages, targets, 1 - self.decay)
        for (own, value), follow in zip(pairs, follows, strict=True):
            if not follow:
                own.copy_(value)
        self.n_averaged += 1


class WeightAverage(WeightAveraging):
    """Lightning's `WeightAveraging` with an exponential moving average, for tasks and trainings as they are here.

    After the first step the average is the weights; after each later one it is decay x average + (1 - decay) x weights.
    Validation and test see the average. So `state_dict` of every checkpoint is the average, which is what `test`,
    `segment` and `export` read; the trained weights are beside it (`current_model_state`), for a training that goes on.

    What differs from Lightning's class: the average is begun when the task is whole (some make their network for the
    data at hand) and lies on its device; only what checkpoints hold is averaged (`MovingAverage`); a validation sees
    the average to its end; a test after the training sees it, too.

    Args:
        decay: Share of the average that stays, in [0, 1).
        every_n_steps: Optimizer steps between two updates.
        device: Where to keep the average; None: where the weights are. `cpu` saves memory and takes a copy a step.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, decay: float = 0.999, every_n_steps: int = 1, device: str | None = None) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), got {decay}")
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        super().__init__(device)
        self.decay, self.every_n_steps = decay, every_n_steps

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether the step that was just taken (0-based) counts."""
        return step_idx is not None and step_idx % self.every_n_steps == 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nothing: the task is not whole yet."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the average, unless a checkpoint has, and bring it to its device."""
        self._average(pl_module).to(self._device or pl_module.device)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take both, for a training that goes on; a test keeps the average, which is in `state_dict`."""
        if trainer.state.fn == "fit":
            self._average(pl_module)
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write both; outside a training there is only what the module holds."""
        if self._average_model is not None:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing yet: others may still look at the weights."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back, before checkpoints are written."""
        super().on_validation_epoch_end(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the average, which the module holds from here on."""
        self._average_model = None

    def _average(self, pl_module: LightningModule) -> AveragedModel:
        if self._average_model is None:
            self._average_model = MovingAverage(pl_module, self.decay)
        return self._average_model
