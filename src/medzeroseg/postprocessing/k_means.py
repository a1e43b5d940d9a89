"""k-means of the saliency values."""

import torch
from torch import Tensor

from medzeroseg.postprocessing.base import Binariser


class KMeans(Binariser):
    """Foreground is the cluster of the highest values; a constant map gives an empty mask.

    Lloyd's algorithm on a line, where clusters are intervals: with sorted values and their running sums
    a step costs a binary search, not a pass over the pixels. It starts from evenly spaced centres between the
    map's minimum and maximum, so the result is the same every time.

    Args:
        clusters: 2, or 3 where something lies between foreground and background.
        foreground: How many of the highest clusters count as foreground.
        max_steps: Lloyd's steps; it stops by itself once no boundary moves.
    """

    def __init__(self, clusters: int = 2, foreground: int = 1, max_steps: int = 300) -> None:
        """Keep the options."""
        if clusters < 2:
            raise ValueError(f"clusters must be at least 2, not {clusters}")
        if not 1 <= foreground < clusters:
            raise ValueError(f"foreground must be in [1, {clusters - 1}], not {foreground}")
        if max_steps < 1:
            raise ValueError(f"max_steps must be at least 1, not {max_steps}")
        self.clusters = clusters
        self.foreground = foreground
        self.max_steps = max_steps

    def _run(self, maps: Tensor, images: Tensor | None, features: Tensor | None) -> Tensor:
        centres = k_means_centres(maps, self.clusters, self.max_steps)
        boundaries = (centres[..., 1:] + centres[..., :-1]) / 2
        lowest = boundaries[..., -self.foreground]
        return maps.double() > lowest[..., None, None]


def k_means_centres(maps: Tensor, clusters: int, max_steps: int = 300) -> Tensor:
    """Centres of the clusters of each map's values, ascending.

    Args:
        maps: ``(B, P, H, W)``.
        clusters: k.
        max_steps: Of Lloyd's algorithm.

    Returns:
        ``(B, P, k)`` float64. A cluster that lost all its values keeps its centre.
    """
    values = maps.flatten(2).double().sort(dim=2).values
    sums = torch.nn.functional.pad(values.cumsum(dim=2), (1, 0))
    low, high = values[..., :1], values[..., -1:]
    centres = low + (high - low) * torch.linspace(0, 1, clusters, dtype=torch.float64, device=maps.device)
    for _ in range(max_steps):
        # a value half-way between two centres belongs to the lower one
        middles = ((centres[..., 1:] + centres[..., :-1]) / 2).contiguous()
        inner = torch.searchsorted(values, middles, right=True)
        edges = torch.nn.functional.pad(inner, (1, 1))
        edges[..., -1] = values.shape[2]
        counts = edges.diff(dim=2)
        means = sums.gather(2, edges).diff(dim=2) / counts.clamp(min=1)
        moved = torch.where(counts > 0, means, centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return centres
