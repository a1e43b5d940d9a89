"""The controller of CEHNC's difficulty parameters."""

import math

import torch
from torch import Tensor


class EffectiveNegativesController:
    """Steers a difficulty lambda so that anchors keep a wanted effective number of negatives [O].

    In the manner of t-SNE's perplexity: the effective number of an anchor's negatives is (sum p)^2 / sum p^2
    over its weighted negatives p. A larger lambda concentrates the weight on near negatives, so

        log lambda <- log lambda + rate * log( effective / (target_fraction * (M - 1)) ),   clamped to a
        range.

    The publication says that CEHNC "updates difficulty parameters" and gives no rule.

    Args:
        target_fraction: wanted effective negatives / (M - 1), in (0, 1]. With hard selection only the
            selected negatives count, so a target above the selected fraction drives lambda to the lower
            bound.
        rate: > 0; 0.05 moves lambda by 5 % for a ratio of e.
        lambda_range: bounds, 0 < low < high. Zero cannot be left by multiplication, hence a positive bound.
    """

    def __init__(
        self,
        target_fraction: float = 0.25,
        rate: float = 0.05,
        lambda_range: tuple[float, float] = (0.01, 50.0),
    ) -> None:
        if not 0 < target_fraction <= 1:
            raise ValueError(f"target_effective_fraction must lie in (0, 1], not {target_fraction}")
        if not (math.isfinite(rate) and rate > 0):
            raise ValueError(f"adaptation_rate must be a positive number, not {rate}")
        low, high = lambda_range
        if not (0 < low < high and math.isfinite(high)):
            raise ValueError(f"lambda_range must be 0 < low < high, not {tuple(lambda_range)}")
        self.target_fraction = target_fraction
        self.rate = rate
        self.lambda_range = (low, high)

    @torch.no_grad()
    def updated(self, difficulty: Tensor, effective_negatives: Tensor, negatives: int) -> Tensor:
        """The next ``difficulty``, 0-d as the one given, after a batch with this mean of effective negatives.

        ``negatives`` is M - 1. An effective number that is not finite or is zero (no anchor had a negative)
        leaves the difficulty as it is.
        """
        ratio = effective_negatives / (self.target_fraction * negatives)
        moved = (difficulty * ratio.pow(self.rate)).clamp(*self.lambda_range)
        usable = torch.isfinite(ratio) & (ratio > 0)
        return torch.where(usable, moved.to(difficulty.dtype), difficulty)
