"""Fixed and percentile thresholds."""

import math

import torch
from torch import Tensor

from medzeroseg.postprocessing.base import Binariser


class Threshold(Binariser):
    """Foreground is what exceeds a fixed value.

    Args:
        value: In [0, 1).
    """

    def __init__(self, value: float = 0.5) -> None:
        """Keep the value."""
        if not 0 <= value < 1:
            raise ValueError(f"value must be in [0, 1), not {value}")
        self.value = value

    def _run(self, maps: Tensor, images: Tensor | None, features: Tensor | None) -> Tensor:
        return maps > self.value


class PercentileThreshold(Binariser):
    """Foreground is what exceeds a percentile of its own map.

    Args:
        percent: In [0, 100): 90 keeps a tenth of the pixels, fewer where many share the percentile's value. A
            constant map gives an empty mask.
    """

    def __init__(self, percent: float = 90.0) -> None:
        """Keep the percentile."""
        if not 0 <= percent < 100:
            raise ValueError(f"percent must be in [0, 100), not {percent}")
        self.percent = percent

    def _run(self, maps: Tensor, images: Tensor | None, features: Tensor | None) -> Tensor:
        values = maps.flatten(2)
        # the value that exactly this share of the pixels, rounded down to whole pixels, does not exceed
        rank = max(math.floor(values.shape[2] * self.percent / 100), 1)
        limit = torch.kthvalue(values, rank, dim=2).values
        return maps > limit[..., None, None]
