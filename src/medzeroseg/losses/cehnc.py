"""CEHNC."""

import math
from typing import Literal

import torch
from torch import Tensor

from medzeroseg.losses.base import ContrastiveLoss, DuplicateTexts, Effective, TileSize
from medzeroseg.losses.difficulty import EffectiveNegativesController
from medzeroseg.losses.functional import Denominator
from medzeroseg.losses.schedule import HardFractionSchedule, Schedule
from medzeroseg.losses.selection import HardSelection


class CEHNCLoss(ContrastiveLoss):
    """Context-enhanced hard-negative contrast (Zhang, Huang, Li, PLOS ONE 2026, equations 1-5).

    Denominator of an anchor: its positive + sum of w e^{g s} over its negatives with
    ``w(z, s) = exp(-lambda ||z - s||)``: far, easy negatives weigh less. The norm is squared or not by
    ``distance`` [O]; on unit vectors the squared one makes a negative's weighted logit (g + 2 lambda) s - 2
    lambda. With ``lambda = 0`` and all negatives it is InfoNCE.

    In training mode with gradients enabled, each call updates the difficulty state *after* its value has been
    computed with the old one: the lambdas (if adaptive) and the schedule's step. So a bare loop, or another
    framework's, needs no further call. In eval mode, or under ``no_grad``, nothing changes. All of the state
    is saved in ``state_dict`` and equal on all ranks.

    Args:
        lambda_image_to_text: difficulty of image anchors, >= 0; the initial value where adaptive.
        lambda_text_to_image: difficulty of text anchors, >= 0; the initial value where adaptive.
        distance: ``squared_l2`` or ``l2``. Below a distance of 0.001 the latter counts as constant, since the
            norm has no derivative at 0.
        hard_fraction: per anchor, keep the hardest fraction of its negatives by weighted logit (rounded up),
            in (0, 1] [O].
        hard_count: keep this many instead; excludes ``hard_fraction`` and its schedule.
        hard_fraction_schedule: ``constant``, or from 1 down to ``hard_fraction`` as ``linear`` or ``cosine``.
        schedule_steps: length of that descent in training steps.
        lambda_update: ``fixed``, or ``adaptive`` as :class:`EffectiveNegativesController` says [O].
        target_effective_fraction: see there.
        adaptation_rate: see there.
        lambda_range: see there.
        duplicate_texts: see :class:`ContrastiveLoss`.
        tile_size: see :class:`ContrastiveLoss`.

    Example:
        In a bare loop:

        >>> import torch
        >>> from torch.nn.functional import normalize
        >>> _ = torch.manual_seed(0)
        >>> image_tower, text_tower = torch.nn.Linear(12, 8), torch.nn.Linear(6, 8)
        >>> log_scale = torch.nn.Parameter(torch.tensor(2.0))
        >>> loss = CEHNCLoss(lambda_update="adaptive", target_effective_fraction=0.5)
        >>> parameters = [*image_tower.parameters(), *text_tower.parameters(), log_scale]
        >>> optimizer = torch.optim.AdamW(parameters, lr=1e-2)
        >>> images, texts = torch.randn(16, 12), torch.randn(16, 6)
        >>> values = []
        >>> for _ in range(20):
        ...     z, s = normalize(image_tower(images), dim=1), normalize(text_tower(texts), dim=1)
        ...     value = loss(z, s, log_scale.exp())
        ...     optimizer.zero_grad()
        ...     value.backward()
        ...     optimizer.step()
        ...     values.append(value.item())
        >>> values[-1] < values[0] / 2
        True
        >>> sorted(loss.diagnostics())
        ['effective_negatives', 'hard_fraction', 'lambda_image_to_text', 'lambda_text_to_image']
    """

    lambda_image_to_text: Tensor
    lambda_text_to_image: Tensor

    def __init__(
        self,
        lambda_image_to_text: float = 1.0,
        lambda_text_to_image: float = 1.0,
        distance: Literal["l2", "squared_l2"] = "squared_l2",
        hard_fraction: float = 1.0,
        hard_count: int | None = None,
        hard_fraction_schedule: Schedule = "constant",
        schedule_steps: int | None = None,
        lambda_update: Literal["fixed", "adaptive"] = "fixed",
        target_effective_fraction: float = 0.25,
        adaptation_rate: float = 0.05,
        lambda_range: tuple[float, float] = (0.01, 50.0),
        duplicate_texts: DuplicateTexts = "keep",
        tile_size: TileSize = "auto",
    ) -> None:
        super().__init__(duplicate_texts, tile_size)
        if distance not in ("l2", "squared_l2"):
            raise ValueError(f"distance must be 'l2' or 'squared_l2', not {distance!r}")
        if lambda_update not in ("fixed", "adaptive"):
            raise ValueError(f"lambda_update must be 'fixed' or 'adaptive', not {lambda_update!r}")
        if hard_count is not None:
            if hard_count < 1:
                raise ValueError(f"hard_count must be >= 1 or null, not {hard_count}")
            if hard_fraction != 1.0 or hard_fraction_schedule != "constant":
                raise ValueError("hard_count excludes hard_fraction and its schedule: give one of them")
        self.controller = EffectiveNegativesController(target_effective_fraction, adaptation_rate, lambda_range)
        low, high = self.controller.lambda_range
        for name, value in (
            ("lambda_image_to_text", lambda_image_to_text),
            ("lambda_text_to_image", lambda_text_to_image),
        ):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number >= 0, not {value}")
            if lambda_update == "adaptive" and not low <= value <= high:
                raise ValueError(f"{name} must lie in lambda_range [{low}, {high}] to be adaptive, not {value}")
            self.register_buffer(name, torch.tensor(float(value)))
        self.distance = distance
        self.hard_count = hard_count
        self.lambda_update = lambda_update
        self.schedule = HardFractionSchedule(hard_fraction, hard_fraction_schedule, schedule_steps)

    def denominators(self, logit_scale: Tensor) -> tuple[Denominator, Denominator]:
        """Distance weights with the directions' lambda."""
        return (
            self._denominator(logit_scale, self.lambda_image_to_text),
            self._denominator(logit_scale, self.lambda_text_to_image),
        )

    def selection(self) -> HardSelection | None:
        """The hardest negatives at the current step."""
        selection = HardSelection(self.schedule.fraction(), self.hard_count)
        return None if selection.keeps_all() else selection

    def update_difficulty(self, effective: Effective, candidates: int) -> None:
        """Nudge the lambdas, count the step."""
        if self.lambda_update == "adaptive":
            # New tensors, not written in place: autograd still holds the old ones until the backward pass,
            # and torch.compile would silently differentiate with values changed in the graph.
            first, second, negatives = self.lambda_image_to_text, self.lambda_text_to_image, candidates - 1
            self.lambda_image_to_text = self.controller.updated(first, effective.image_to_text, negatives)
            self.lambda_text_to_image = self.controller.updated(second, effective.text_to_image, negatives)
        self.schedule.advance()

    def diagnostics(self) -> dict[str, Tensor]:
        """As in :class:`ContrastiveLoss`, with both lambdas and the hard fraction as the next call uses them.

        With ``hard_count``, ``hard_fraction`` is that count over the negatives of the last call.
        """
        device = self.lambda_image_to_text.device
        return {
            **super().diagnostics(),
            "lambda_image_to_text": self.lambda_image_to_text.detach().clone(),
            "lambda_text_to_image": self.lambda_text_to_image.detach().clone(),
            "hard_fraction": torch.tensor(self._fraction(), device=device),
        }

    def extra_repr(self) -> str:
        """The constructor's arguments, the lambdas as they are now."""
        return (
            f"lambda_image_to_text={self.lambda_image_to_text.item():.4g}, "
            f"lambda_text_to_image={self.lambda_text_to_image.item():.4g}, distance={self.distance!r}, "
            f"hard_fraction={self.schedule.final}, hard_count={self.hard_count}, "
            f"lambda_update={self.lambda_update!r}, {super().extra_repr()}"
        )

    def _fraction(self) -> float:
        if self.hard_count is None:
            return self.schedule.fraction()
        if self._candidates is None:
            return math.nan
        return min(1.0, self.hard_count / (self._candidates - 1))

    def _denominator(self, logit_scale: Tensor, difficulty: Tensor) -> Denominator:
        difficulty = difficulty.to(logit_scale.dtype)
        if self.distance == "l2":
            return Denominator(scale=logit_scale, slope=logit_scale, distance_weight=difficulty)
        return Denominator(scale=logit_scale, slope=logit_scale + 2.0 * difficulty, intercept=2.0 * difficulty)
