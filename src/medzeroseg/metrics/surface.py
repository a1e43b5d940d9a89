"""Distances between the surfaces of masks: the 95th percentile (HD95) and the normalised surface distance (NSD)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

DEFAULT_TOLERANCE = 2.0
"""Of the NSD, in mm, or in pixels where the spacing is lost."""


@dataclass(frozen=True)
class Grid:
    """The axes along which a case extends, and their spacing.

    An axis of one voxel is left out: a picture has a contour. (In a volume of one slice every voxel would be surface.)

    Attributes:
        shape: Size along each axis of the case.
        axes: Those with more than one voxel.
        spacing: Of these axes; all 1 where it is lost.
        in_mm: Whether the spacing is known; else distances are in pixels.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    spacing: tuple[float, ...]
    in_mm: bool

    @classmethod
    def of(cls, shape: Sequence[int], spacing_mm: Sequence[float] | None) -> "Grid":
        """Describe a case.

        Args:
            shape: (D, H, W), or any other number of axes.
            spacing_mm: As many; NaN where the source has lost it, None where it has lost all. If one that counts is
                lost, all count as 1 pixel.

        Raises:
            ValueError: The lengths differ, or a spacing is not positive.
        """
        if spacing_mm is not None and len(spacing_mm) != len(shape):
            raise ValueError(f"spacing_mm must have {len(shape)} values, got {tuple(spacing_mm)}")
        axes = tuple(n for n, size in enumerate(shape) if size > 1) or (len(shape) - 1,)
        spacing = (np.nan,) * len(axes) if spacing_mm is None else tuple(float(spacing_mm[n]) for n in axes)
        if any(step <= 0 or np.isinf(step) for step in spacing):
            raise ValueError(f"spacing_mm must be positive, got {spacing_mm}")
        in_mm = not np.isnan(spacing).any()
        return cls(tuple(shape), axes, spacing if in_mm else (1.0,) * len(axes), in_mm)

    @property
    def diagonal(self) -> float:
        """Largest distance that two voxels of the case can have."""
        extent = [(self.shape[n] - 1) * step for n, step in zip(self.axes, self.spacing, strict=True)]
        return float(np.linalg.norm(extent))


class Surface(ABC):
    """What counts as the surface of a mask."""

    @abstractmethod
    def find(self, mask: Mask, spacing: Sequence[float]) -> tuple[Mask, Values]:
        """The surface of a mask whose outermost voxels lie outside.

        Args:
            mask: Binary, cropped, with a margin of one empty voxel at each end of each axis.
            spacing: Of its axes.

        Returns:
            Where the surface is, on a grid that is the same for all masks of one shape, and the weight of each of its
            points, in that grid's order.
        """

    @abstractmethod
    def percentile(self, distances: Values, weights: Values, percent: float) -> float:
        """The percentile of the distances of one surface's points."""


@dataclass(frozen=True)
class BorderVoxels(Surface):
    """Voxels of the mask that have a face in common with a voxel outside it; all weigh the same.

    The definition of MONAI's `compute_hausdorff_distance` and `compute_surface_dice`; the percentile is interpolated.
    """

    def find(self, mask: Mask, spacing: Sequence[float]) -> tuple[Mask, Values]:
        """See `Surface.find`; the grid is the mask's own."""
        inner = mask.copy()
        for axis in range(mask.ndim):
            kept, whole = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
            kept[1:] &= whole[:-1]
            kept[:-1] &= whole[1:]
        border = mask & ~inner
        return border, np.ones(np.count_nonzero(border))

    def percentile(self, distances: Values, weights: Values, percent: float) -> float:
        """Linearly interpolated."""
        return float(np.percentile(distances, percent))


@dataclass(frozen=True)
class SurfaceElements(Surface):
    """Elements between voxel centres, where a 2x2x2 neighbourhood is partly inside, weighed by their area.

    The definition of the `surface-distance` package (Nikolov et al., arXiv 1809.04430); in a picture, pieces of contour
    by their length.
    """

    def find(self, mask: Mask, spacing: Sequence[float]) -> tuple[Mask, Values]:
        """See `Surface.find`; the grid is that of the voxels' corners."""
        from monai.metrics.utils import get_code_to_measure_table  # seconds, and most runs do without

        measures, kernel = get_code_to_measure_table(tuple(spacing))
        places = kernel.squeeze().numpy()
        codes = np.zeros([size - 1 for size in mask.shape], dtype=np.uint8)
        for corner in np.ndindex(places.shape):
            part = tuple(slice(at, at + size) for at, size in zip(corner, codes.shape, strict=True))
            codes += mask[part] * np.uint8(places[corner])
        surface = (codes > 0) & (codes < len(measures) - 1)
        return surface, measures.numpy().astype(np.float64)[codes[surface]]

    def percentile(self, distances: Values, weights: Values, percent: float) -> float:
        """The smallest distance that at least this share of the area does not exceed."""
        order = np.argsort(distances, kind="stable")
        share = np.cumsum(weights[order]) / weights.sum()
        return float(distances[order][min(int(np.searchsorted(share, percent / 100)), len(order) - 1)])


def surface_scores(
    prediction: Tensor,
    reference: Tensor,
    spacing_mm: Sequence[float] | None,
    *,
    tolerance: float = DEFAULT_TOLERANCE,
    percent: float = 95.0,
    surface: Surface | None = None,
) -> tuple[Tensor, Tensor]:
    """HD95 and NSD of binary masks, over all voxels of a case.

    HD95 is the larger of the two directed 95th percentiles of the distance from each point of one surface to the
    nearest of the other. NSD is the share of both surfaces' points that lie within the tolerance of the other surface.
    What touches the edge of the image ends there: its surface runs along the edge.

    Where both masks are empty, both are NaN: a label that is rightly not found says nothing about distance and is
    counted apart. Where one alone is empty there is no distance; HD95 is then the largest that the image allows, its
    diagonal between voxel centres, so that leaving a case empty never pays, and NSD is 0.

    Only the joint bounding box is looked at, once for both scores. The nearest point is sought in a k-d tree of the
    other surface's points, which is several times faster than distance transforms of the box; points that both surfaces
    share are not looked up.

    Args:
        prediction: (P, ...) bool, P labels.
        reference: The same shape, bool.
        spacing_mm: One value an axis of the case. Lost (NaN, None): distances are in pixels, see `Grid`.
        tolerance: Of the NSD, in mm, or in pixels where the spacing is lost.
        percent: Percentile of the distance, in [0, 100]; 100 is the Hausdorff distance.
        surface: What counts as surface; None: `BorderVoxels`.

    Returns:
        HD95 in mm (or pixels) and NSD in [0, 1], each (P,) float64.

    Raises:
        ValueError: The shapes differ, a spacing is not positive, or `tolerance` or `percent` is out of range.
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"shapes differ: {tuple(prediction.shape)} and {tuple(reference.shape)}")
    if not tolerance >= 0 or not 0 <= percent <= 100:
        raise ValueError(f"tolerance must be 0 or more and percent in [0, 100], got {tolerance} and {percent}")
    grid = Grid.of(prediction.shape[1:], spacing_mm)
    surface = surface or BorderVoxels()
    size = [prediction.shape[1 + n] for n in grid.axes]
    scores = []
    for found, true in zip(prediction, reference, strict=True):  # a few labels, each with a box of its own
        masks = crop_to_union(found.reshape(size), true.reshape(size))
        present = [bool(mask.any()) for mask in masks]
        if all(present):
            scores.append(_compare(masks, grid.spacing, tolerance, percent, surface))
        else:
            scores.append((grid.diagonal, 0.0) if any(present) else (np.nan, np.nan))
    hd95, nsd = torch.tensor(scores, dtype=torch.float64).reshape(-1, 2).unbind(dim=1)
    return hd95, nsd


def crop_to_union(first: Tensor, second: Tensor) -> tuple[Mask, Mask]:
    """Both masks within their joint bounding box, with a margin of one empty voxel; a single one if both are empty."""
    for axis in range(first.ndim):
        others = [n for n in range(first.ndim) if n != axis]
        # bytes: torch finds their maximum several times faster than whether any bit is set
        inside = [mask.view(torch.uint8).amax(others) if others else mask for mask in (first, second)]
        places = (inside[0] | inside[1]).nonzero()[:, 0].tolist()
        start, end = (places[0], places[-1] + 1) if places else (0, 1)
        first, second = first.narrow(axis, start, end - start), second.narrow(axis, start, end - start)
    padded = [np.pad(mask.cpu().numpy(), 1) for mask in (first, second)]
    return padded[0], padded[1]


def _compare(
    masks: tuple[Mask, Mask], spacing: Sequence[float], tolerance: float, percent: float, surface: Surface
) -> tuple[float, float]:
    (own, own_weights), (other, other_weights) = (surface.find(mask, spacing) for mask in masks)
    directed = [(_distances(own, other, spacing), own_weights), (_distances(other, own, spacing), other_weights)]
    # float32, as in MONAI: a distance that equals the tolerance but for rounding is within it
    within = sum(float(weights[d.astype(np.float32) <= np.float32(tolerance)].sum()) for d, weights in directed)
    total = float(own_weights.sum() + other_weights.sum())
    return max(surface.percentile(d, weights, percent) for d, weights in directed), within / total


def _distances(own: Mask, other: Mask, spacing: Sequence[float]) -> Values:
    """Distance of each point of one surface to the nearest point of the other, in the order of `np.argwhere`."""
    apart = ~other[own]
    distances = np.zeros(len(apart))
    if apart.any():
        # Built for one batch of queries: a tree that is not balanced is built faster and answers as fast.
        tree = KDTree(np.argwhere(other) * np.asarray(spacing), leafsize=32, balanced_tree=False, compact_nodes=False)
        distances[apart] = tree.query(np.argwhere(own)[apart] * np.asarray(spacing))[0]
    return distances
