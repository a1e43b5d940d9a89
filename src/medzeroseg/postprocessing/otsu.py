"""Otsu's threshold."""

import torch
from torch import Tensor

from medzeroseg.postprocessing.base import Binariser, Refiner


class OtsuProbability(Refiner):
    """Stretches each map so that Otsu's threshold comes to lie at one half.

    For what reads a map as a probability, as `DenseCRF` does: a saliency map has no scale of its own, and one half of
    its maximum is mostly far above the value that separates it best, so that small structures start as background.
    Below and above the threshold values are scaled linearly, so their order stays; a constant map stays as it is.

    Args:
        bins: Of the histogram between the map's own minimum and maximum.
    """

    def __init__(self, bins: int = 256) -> None:
        """Keep the number of bins."""
        if bins < 2:
            raise ValueError(f"bins must be at least 2, not {bins}")
        self.bins = bins

    def _run(self, maps: Tensor, images: Tensor | None, features: Tensor | None) -> Tensor:
        threshold = otsu_thresholds(maps, self.bins)[..., None, None].to(maps.dtype)
        # a threshold of 0 or 1 is that of a constant map, which is not stretched
        below = maps / (2 * torch.where(threshold > 0, threshold, 1))
        above = 1 - (1 - maps) / (2 * torch.where(threshold < 1, 1 - threshold, 1))
        constant = maps.amin(dim=(2, 3), keepdim=True) == maps.amax(dim=(2, 3), keepdim=True)
        return torch.where(constant, maps, torch.where(maps > threshold, above, below).clamp(0, 1))


class Otsu(Binariser):
    """Foreground is what exceeds the threshold that separates a map's histogram best.

    A constant map gives an empty mask.

    Args:
        bins: Of the histogram between the map's own minimum and maximum.

    Source: Otsu, "A Threshold Selection Method from Gray-Level Histograms", IEEE SMC 1979, equation 18.
    """

    def __init__(self, bins: int = 256) -> None:
        """Keep the number of bins."""
        if bins < 2:
            raise ValueError(f"bins must be at least 2, not {bins}")
        self.bins = bins

    def _run(self, maps: Tensor, images: Tensor | None, features: Tensor | None) -> Tensor:
        return maps > otsu_thresholds(maps, self.bins)[..., None, None].to(maps.dtype)


def otsu_thresholds(maps: Tensor, bins: int = 256) -> Tensor:
    """The centre of the bin up to which a map ``(B, P, H, W)`` is background: ``(B, P)`` float64.

    Among equally good bins the lowest. For a constant map its value.
    """
    values = maps.flatten(2).double()
    low, high = values.amin(dim=2, keepdim=True), values.amax(dim=2, keepdim=True)
    width = (high - low) / bins
    index = ((values - low) / torch.where(width > 0, width, 1)).long().clamp(max=bins - 1)
    counts = torch.zeros(*maps.shape[:2], bins, dtype=torch.float64, device=maps.device)
    counts.scatter_add_(2, index, torch.ones_like(values))
    centres = low + width * (torch.arange(bins, dtype=torch.float64, device=maps.device) + 0.5)
    below, moment = counts.cumsum(dim=2), (counts * centres).cumsum(dim=2)
    total, mass = below[..., -1:], moment[..., -1:]
    above = total - below
    # between-class variance times the square of the count
    difference = moment / below.clamp(min=1) - (mass - moment) / above.clamp(min=1)
    variance = below * above * difference.square()
    best = variance[..., :-1].argmax(dim=2, keepdim=True)
    return torch.where(high > low, centres.gather(2, best), low).squeeze(2)
