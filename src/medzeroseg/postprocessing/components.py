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
        _check(n, least_share)
        if min_area_px < 0:
            raise ValueError(f"min_area_px must be at least 0, not {min_area_px}")
        self.n = n
        self.least_share = least_share
        self.neighbours = _neighbours(connectivity)
        self.min_area_px = min_area_px

    def _run(self, maps: Tensor, images: Tensor | None, features: Tensor | None) -> Tensor:
        found = _largest(maps.flatten(0, 1), self.neighbours, self.n, self.min_area_px, self.least_share)
        return found.reshape(maps.shape)


class LargestVolumes:
    """Keep the largest connected parts of each mask of a volume, connected through its slices.

    What a structure's map lights up elsewhere, in one slice or a few, goes; the slices keep what belongs together. A
    picture of one slice is left as it is: there `LargestComponents` has done it.

    Args:
        n: How many; voxels are connected across faces, edges and corners. Of parts equally large the first.
        least_share: Parts smaller than this share, in [0, 1], of the largest are dropped, too. The defaults keep pairs,
            such as lungs, and drop what lies beside a single organ.

    Raises:
        ValueError: A number is out of range.
    """

    def __init__(self, n: int = 2, least_share: float = 0.5) -> None:
        """Keep the options."""
        _check(n, least_share)
        self.n, self.least_share = n, least_share

    def __call__(self, masks: Tensor) -> Tensor:
        """(P, D, H, W) bool -> the same."""
        if masks.shape[1] < 2:
            return masks
        solid = ndimage.generate_binary_structure(3, 3)
        neighbours = np.stack([np.zeros_like(solid), solid, np.zeros_like(solid)])
        return _largest(masks, neighbours, self.n, 0, self.least_share)


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
        labels, _, areas = _label(~maps.flatten(0, 1), _neighbours(4))
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


def _check(n: int, least_share: float) -> None:
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}")
    if not 0 <= least_share <= 1:
        raise ValueError(f"least_share must be in [0, 1], not {least_share}")


def _largest(masks: Tensor, neighbours: NDArray[np.bool_], n: int, least_size: int, least_share: float) -> Tensor:
    """The n largest parts of each of a stack of masks ``(N, ...)``."""
    labels, owner, sizes = _label(masks, neighbours)
    # each mask's parts from large to small; labels already run in reading order
    order = np.lexsort((np.arange(len(sizes)), -sizes, owner))
    first = np.searchsorted(owner[order], owner[order])
    rank = np.empty(len(sizes), dtype=np.int64)
    rank[order] = np.arange(len(sizes)) - first
    largest = sizes[order][first][np.argsort(order)]
    keep = np.append(False, (rank < n) & (sizes >= least_size) & (sizes >= least_share * largest))
    return torch.from_numpy(keep[labels]).to(masks.device)


def _label(
    masks: Tensor, neighbours: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Parts of all of a stack of masks ``(N, ...)`` in one call.

    Returns:
        Labels of the same shape, 0 for none, 1 to n; of each part the mask that it lies in, ascending, and its size in
        pixels or voxels, each ``(n,)``.
    """
    labels, count = ndimage.label(masks.cpu().numpy(), structure=neighbours)
    owner = np.zeros(count, dtype=np.int64)
    inside = labels > 0
    owner[labels[inside] - 1] = np.nonzero(inside)[0]
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return labels, owner, sizes
