"""From raw saliency to what post-processing takes: size and range."""

import torch
from torch import Tensor
from torch.nn import functional as F


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear resizing of ``(B, P, h, w)`` to ``(B, P, H, W)``, each cell's value at its centre."""
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def normalise_maps(maps: Tensor) -> Tensor:
    """Stretch each map ``(..., H, W)`` to [0, 1] by its own minimum and maximum.

    A constant map becomes all 0: it prefers no place, and post-processing finds nothing in it. After stretching, maps
    of different prompts or images can no longer be compared by value: use `SaliencyMaps.scores` for that.
    """
    low = maps.amin(dim=(-2, -1), keepdim=True)
    span = maps.amax(dim=(-2, -1), keepdim=True) - low
    # the quotient of a very small span can round to just over 1
    return ((maps - low) / torch.where(span > 0, span, 1)).clamp(0, 1)
