"""How the fraction of hard negatives shrinks over training."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

Schedule = Literal["constant", "linear", "cosine"]


class HardFractionSchedule(nn.Module):
    """From all negatives down to the hardest ``final`` fraction of them [O].

    The step counter is a buffer, so a resumed run goes on where it stopped. It is read by the host, which on
    a GPU waits for the device; a constant schedule never reads it.

    Args:
        final: fraction reached at ``steps``, in (0, 1].
        kind: ``constant`` is ``final`` from the start; ``linear`` and ``cosine`` go from 1 to ``final``.
        steps: length of the descent in training steps.
    """

    step: Tensor

    def __init__(self, final: float = 1.0, kind: Schedule = "constant", steps: int | None = None) -> None:
        super().__init__()
        if not 0 < final <= 1:
            raise ValueError(f"hard_fraction must lie in (0, 1], not {final}")
        if kind not in ("constant", "linear", "cosine"):
            raise ValueError(f"hard_fraction_schedule must be 'constant', 'linear' or 'cosine', not {kind!r}")
        if kind != "constant" and (steps is None or steps < 1):
            raise ValueError(f"hard_fraction_schedule={kind!r} needs schedule_steps >= 1, not {steps}")
        self.final = final
        self.kind = kind
        self.steps = steps
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def fraction(self) -> float:
        """The fraction at the current step."""
        if self.kind == "constant" or self.steps is None:
            return self.final
        progress = min(int(self.step) / self.steps, 1.0)
        if self.kind == "cosine":
            progress = (1.0 - math.cos(math.pi * progress)) / 2.0
        return 1.0 + (self.final - 1.0) * progress

    @torch.no_grad()
    def advance(self) -> None:
        """Count one training step."""
        self.step.add_(1)
