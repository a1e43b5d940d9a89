"""Learning-rate schedules, built from the length of the run."""

import math
from abc import ABC, abstractmethod

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


class LRSchedule(ABC):
    """Makes a learning-rate scheduler once the optimizer and the length of the run are known."""

    @abstractmethod
    def __call__(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        """Make the scheduler, stepped once per optimizer step, for a run of `total_steps` steps."""


class WarmupCosine(LRSchedule):
    """Linear warm-up from zero, then a half cosine down to a fraction of the peak.

    Args:
        warmup_fraction: Share of the run spent warming up, in [0, 1).
        final_fraction: Learning rate at the last step as a fraction of the peak, in [0, 1].

    Raises:
        ValueError: A fraction is out of its range.
    """

    def __init__(self, warmup_fraction: float = 0.1, final_fraction: float = 0.0) -> None:
        if not 0 <= warmup_fraction < 1:
            raise ValueError(f"warmup_fraction must be in [0, 1), got {warmup_fraction}")
        if not 0 <= final_fraction <= 1:
            raise ValueError(f"final_fraction must be in [0, 1], got {final_fraction}")
        self.warmup_fraction = warmup_fraction
        self.final_fraction = final_fraction

    def __call__(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        """Make the scheduler for a run of `total_steps` optimizer steps."""
        warmup = math.ceil(self.warmup_fraction * total_steps)
        return LambdaLR(optimizer, lambda step: self.factor(step, warmup, total_steps))

    def factor(self, step: int, warmup_steps: int, total_steps: int) -> float:
        """Learning rate at `step` (0-based) as a fraction of the peak, in [0, 1]."""
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return self.final_fraction + (1 - self.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
