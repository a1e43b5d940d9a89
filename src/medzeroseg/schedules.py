"""Learning-rate schedules, built from the length of the run."""

import bisect
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

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
        restarts: Shares of the run, increasing in (0, 1), at which all that begins again: where the run changes what it
            trains (`ContrastiveTask`'s `window_share`). Warm-up and end are then those of each piece.
        restart_peak: Peak after a restart, in units of the first one.

    Raises:
        ValueError: A fraction is out of its range.
    """

    def __init__(
        self,
        warmup_fraction: float = 0.1,
        final_fraction: float = 0.0,
        restarts: Sequence[float] = (),
        restart_peak: float = 1.0,
    ) -> None:
        if not 0 <= warmup_fraction < 1:
            raise ValueError(f"warmup_fraction must be in [0, 1), got {warmup_fraction}")
        if not 0 <= final_fraction <= 1:
            raise ValueError(f"final_fraction must be in [0, 1], got {final_fraction}")
        edges = [0.0, *restarts, 1.0]
        if any(not low < high for low, high in itertools.pairwise(edges)):
            raise ValueError(f"restarts must increase in (0, 1), got {list(restarts)}")
        if not restart_peak > 0:
            raise ValueError(f"restart_peak must be over 0, got {restart_peak}")
        self.restarts, self.restart_peak = tuple(restarts), restart_peak
        self.warmup_fraction = warmup_fraction
        self.final_fraction = final_fraction

    def __call__(self, optimizer: Optimizer, total_steps: int) -> LRScheduler:
        """Make the scheduler for a run of `total_steps` optimizer steps."""
        edges = [0, *(round(share * total_steps) for share in self.restarts), total_steps]

        def of_run(step: int) -> float:
            piece = min(bisect.bisect_right(edges, step), len(edges) - 1) - 1
            length = edges[piece + 1] - edges[piece]
            peak = self.restart_peak if piece else 1.0
            return peak * self.factor(step - edges[piece], math.ceil(self.warmup_fraction * length), length)

        return LambdaLR(optimizer, of_run)

    def factor(self, step: int, warmup_steps: int, total_steps: int) -> float:
        """Learning rate at `step` (0-based) as a fraction of the peak, in [0, 1]."""
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return self.final_fraction + (1 - self.final_fraction) * 0.5 * (1 + math.cos(math.pi * progress))
