"""Connected components: the largest ones, and holes."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from medzeroseg.postprocessing.base import MaskCleaner


class LargestComponents(MaskCleaner):
    """Keep the n largest connected parts of each mask.

    Args:
        n: How many; 2 for a pair of lungs. Of parts equally large the first in reading order.
        connectivity: 8 counts diagonal neighbours, 4 does not.
        min_area_px: Smaller parts are dropped even if they are among the largest.
        least_share: Likewise parts smaller than this share, in [0, 1], of the largest part of their mask. With
            ``n=2, least_share=0.5`` pairs stay, and specks beside a single organ go.
    """

    def __init__(self, n: int = 1, connectivity: int = 8, min_area_px: int = 0, least_share: float = 0.0) -> None:
        """Keep the options."""
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        if min_area_px < 0:
            raise ValueError(f"min_area_px must be at least 0, not {min_area_px}")
        if not 0 <= least_share <= 1:
            raise ValueError(f"least_share must be in [0, 1], not {least_share}")
        self.n = n
        self.least_share = least_share
        self.neighbours = _neighbours(connectivity)
        self.min_area_px = min_area_px

    def _run(self, maps: Tensor, images: Tensor | None, features: Tensor | None) -> Tensor:
        labels, owner, areas = _label(maps, self.neighbours)
        # each mask's parts from large to small; labels already run in reading order
        order = np.lexsort((np.arange(len(areas)), -areas, owner))
        first = np.searchsorted(owner[order], owner[order])
        rank = np.empty(len(areas), dtype=np.int64)
        rank[order] = np.arange(len(areas)) - first
        largest = areas[order][first][np.argsort(order)]
        kept = (rank < self.n) & (areas >= self.min_area_px) & (areas >= self.least_share * largest)
        keep = np.append(False, kept)
        return torch.from_numpy(keep[labels]).reshape(maps.shape).to(maps.device)


class FillHoles(MaskCleaner):
    """Add to each mask the background that it encloses, whatever does not reach the image's border.

    Args:
        max_area_px: Larger holes stay open; None fills all.
    """

    def __init__(self, max_area_px: int | None = None) -> None:
        """Keep the option."""
        if max_area_px is not None and max_area_px < 1:
            raise ValueError(f"max_area_px must be at least 1 or None, not {max_area_px}")
        self.max_area_px = max_area_px

    def _run(self, maps: Tensor, images: Tensor | None, features: Tensor | None) -> Tensor:
        # a background connected by edges alone is what an 8-connected outline encloses
        labels, _, areas = _label(~maps, _neighbours(4))
        hole = np.append(False, np.ones_like(areas, dtype=bool))
        for border in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
            hole[border] = False
        if self.max_area_px is not None:
            hole[1:] &= areas <= self.max_area_px
        return maps | torch.from_numpy(hole[labels]).reshape(maps.shape).to(maps.device)


def _neighbours(connectivity: int) -> NDArray[np.bool_]:
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8, not {connectivity}")
    plane = ndimage.generate_binary_structure(2, 1 if connectivity == 4 else 2)
    # nothing connects one mask of the stack with the next
    return np.stack([np.zeros_like(plane), plane, np.zeros_like(plane)])


def _label(
    masks: Tensor, neighbours: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Parts of all masks in one call.

    Returns:
        Labels ``(B * P, H, W)``, 0 for none, 1 to n; of each part the mask that it lies in, ascending, and its
        area in pixels, each ``(n,)``.
    """
    stack = masks.flatten(0, 1).cpu().numpy()
    labels, count = ndimage.label(stack, structure=neighbours)
    owner = np.zeros(count, dtype=np.int64)
    inside = labels > 0
    owner[labels[inside] - 1] = np.nonzero(inside)[0]
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return labels, owner, areas
