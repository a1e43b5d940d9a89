"""The Gaussian kernels of the dense CRF, each applied to all pixels without a matrix of all pairs of them.

A kernel k is normalised symmetrically, as in the code of Krähenbühl and Koltun: k~_ij = k_ij / sqrt(n_i n_j) with
n_i = sum_j k_ij. So weights mean the same at every image size. A pixel does not count among its own neighbours:
k~_ii = 1 / n_i is taken out of the sum.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

#: grid cells per standard deviation of the appearance kernel
CELLS_PER_SIGMA = 2.0
#: standard deviations after which a Gaussian is taken for zero: 1.5e-8 of its peak
TRUNCATE_SIGMAS = 6.0
#: feature grids are averaged down to this side at most; their kernel holds all pairs of cells
MAX_FEATURE_SIDE = 48


class Kernel(ABC):
    """A normalised kernel over the pixels of a batch of images."""

    def __init__(self, reference: Tensor) -> None:
        """Compute the normalisation.

        Args:
            reference: Gives size, type and device: ``(B, P, H, W)``.
        """
        ones = reference.new_ones(len(reference), 1, *reference.shape[2:])
        self._scale = self._blur(ones).rsqrt()

    def __call__(self, values: Tensor) -> Tensor:
        """Sum over all other pixels j of k~_ij values_j: ``(B, P, H, W)`` to the same."""
        return self._scale * self._blur(self._scale * values) - self._scale.square() * values

    @abstractmethod
    def _blur(self, values: Tensor) -> Tensor:
        """Sum over all pixels j of k_ij values_j, up to a constant factor close to 1."""


class SmoothnessKernel(Kernel):
    """exp(-|p_i - p_j|^2 / 2 sigma^2), p the position: exact, a matrix product along rows and one along columns.

    Up to some 2,000 pixels a side that is faster than convolutions of single-channel images.

    Args:
        reference: ``(B, P, H, W)``.
        sigma_px: Standard deviation.
    """

    def __init__(self, reference: Tensor, sigma_px: float) -> None:
        """Sample the Gaussian."""
        self._rows, self._columns = (_gaussian_matrix(size, sigma_px, reference) for size in reference.shape[2:])
        super().__init__(reference)

    def _blur(self, values: Tensor) -> Tensor:
        return self._rows @ (values @ self._columns)


class AppearanceKernel(Kernel):
    """exp(-|p_i - p_j|^2 / 2 sigma^2 - |I_i - I_j|^2 / 2 tau^2), I the intensity: a bilateral grid.

    Pixels are shared out among the eight nearest cells of a coarse grid over rows, columns and intensities, the grid
    is blurred, and each pixel reads its eight cells again (Paris & Durand, ECCV 2006; Chen et al., SIGGRAPH 2007).
    Sharing and reading each blur by a sixth of a squared cell, which the grid's Gaussian leaves out.

    Args:
        reference: ``(B, P, H, W)``.
        images: ``(B, H, W)`` in [0, 1].
        sigma_px: Standard deviation of the position.
        sigma_intensity: Standard deviation of the intensity.
    """

    def __init__(self, reference: Tensor, images: Tensor, sigma_px: float, sigma_intensity: float) -> None:
        """Find the cells of every pixel and their shares."""
        height, width = images.shape[1:]
        per_pixel, per_intensity = CELLS_PER_SIGMA / sigma_px, CELLS_PER_SIGMA / sigma_intensity
        rows = torch.arange(height, device=images.device).to(images) * per_pixel
        columns = torch.arange(width, device=images.device).to(images) * per_pixel
        places = (rows[:, None].expand_as(images), columns.expand_as(images), images * per_intensity)
        furthest = ((height - 1) * per_pixel, (width - 1) * per_pixel, per_intensity)
        limits = [max(math.ceil(cells), 1) for cells in furthest]
        self._grid = (len(images), *(limit + 1 for limit in limits))
        sharing = SparseSharing if images.device.type == "cpu" else IndexedSharing
        self._sharing = sharing(*_corners(places, limits), math.prod(self._grid))
        sigma = math.sqrt(CELLS_PER_SIGMA**2 - 1 / 3)
        self._blurs = [_gaussian_matrix(size, sigma, reference) for size in self._grid[1:]]
        super().__init__(reference)

    def _blur(self, values: Tensor) -> Tensor:
        pixels = values.movedim(1, -1).flatten(0, 2)
        batch, rows, columns, intensities = self._grid
        along_rows, along_columns, along_intensities = self._blurs
        # what comes after an axis is one row of a product, so that nothing is moved but along the last, short axis
        cells = along_rows @ self._sharing.out(pixels).view(batch, rows, -1)
        cells = along_columns @ cells.view(batch * rows, columns, -1)
        cells = (cells.view(-1, intensities, pixels.shape[1]).transpose(1, 2) @ along_intensities).transpose(1, 2)
        read = self._sharing.back(cells.reshape(-1, pixels.shape[1]))
        return read.view(len(values), *values.shape[2:], -1).movedim(-1, 1)


class Sharing(ABC):
    """Pixels and the eight cells that each is shared out among.

    Args:
        cells: ``(N, 8)`` flat indices of cells.
        shares: ``(N, 8)``, those of a pixel sum to 1.
        count: Cells in all.
    """

    @abstractmethod
    def __init__(self, cells: Tensor, shares: Tensor, count: int) -> None:
        """Keep them."""

    @abstractmethod
    def out(self, pixels: Tensor) -> Tensor:
        """Values of pixels ``(N, P)`` to the sums in the cells ``(count, P)``."""

    @abstractmethod
    def back(self, cells: Tensor) -> Tensor:
        """Values of cells ``(count, P)`` to the weighted means that the pixels read ``(N, P)``."""


class SparseSharing(Sharing):
    """On a CPU: products with a sparse matrix, which take a third of the time of indexing."""

    def __init__(self, cells: Tensor, shares: Tensor, count: int) -> None:
        """See `Sharing`."""
        index = np.int32 if cells.numel() < 2**31 and count < 2**31 else np.int64
        ends = np.arange(0, cells.numel() + 1, cells.shape[1], dtype=index)
        parts = (shares.flatten().numpy(), cells.flatten().numpy().astype(index), ends)
        self._back = sparse.csr_array(parts, shape=(len(cells), count))

    def out(self, pixels: Tensor) -> Tensor:
        """See `Sharing`."""
        return torch.from_numpy(self._back.T @ pixels.numpy())

    def back(self, cells: Tensor) -> Tensor:
        """See `Sharing`."""
        return torch.from_numpy(self._back @ cells.numpy())


class IndexedSharing(Sharing):
    """On any device: corner by corner."""

    def __init__(self, cells: Tensor, shares: Tensor, count: int) -> None:
        """See `Sharing`."""
        self._corners = list(zip(cells.T.contiguous(), shares.T.contiguous()[..., None], strict=True))
        self._count = count

    def out(self, pixels: Tensor) -> Tensor:
        """See `Sharing`."""
        cells = pixels.new_zeros(self._count, pixels.shape[1])
        for cell, share in self._corners:
            cells.index_add_(0, cell, share * pixels)
        return cells

    def back(self, cells: Tensor) -> Tensor:
        """See `Sharing`."""
        pixels = cells.new_zeros(len(self._corners[0][0]), cells.shape[1])
        for cell, share in self._corners:
            pixels.addcmul_(share, cells.index_select(0, cell))
        return pixels


class FeatureKernel(Kernel):
    """exp(-|p_i - p_j|^2 / 2 sigma^2 - |f_i - f_j|^2 / 2 tau^2), f the features' directions (unit length).

    Exact between the cells of the features' own coarse grid: values are averaged over each cell, and
    the result is interpolated between the cells' centres, which is how the features themselves would be enlarged.

    Args:
        reference: ``(B, P, H, W)``.
        features: ``(B, C, h, w)``; grids larger than `MAX_FEATURE_SIDE` or than the maps are averaged down.
        sigma_px: Standard deviation of the position.
        sigma_feature: Standard deviation of the distance between unit features, which is 0 to 2.
    """

    def __init__(self, reference: Tensor, features: Tensor, sigma_px: float, sigma_feature: float) -> None:
        """Compute the kernel between all pairs of cells."""
        height, width = reference.shape[2:]
        side = (min(features.shape[2], MAX_FEATURE_SIDE, height), min(features.shape[3], MAX_FEATURE_SIDE, width))
        coarse = F.adaptive_avg_pool2d(features.to(reference), side)
        vectors = F.normalize(coarse.flatten(2).transpose(1, 2), dim=2) / sigma_feature
        rows = torch.arange(side[0], device=vectors.device).to(vectors) * (height / side[0] / sigma_px)
        columns = torch.arange(side[1], device=vectors.device).to(vectors) * (width / side[1] / sigma_px)
        places = torch.cartesian_prod(rows, columns).expand(len(vectors), -1, -1)
        points = torch.cat([vectors, places], dim=2)
        # by differences, not by products of vectors: the latter lose the small distances that matter
        distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        self._kernel = torch.exp(-0.5 * distance.square()) * (height * width / math.prod(side))
        self._side = side
        super().__init__(reference)

    def _blur(self, values: Tensor) -> Tensor:
        coarse = F.adaptive_avg_pool2d(values, self._side).flatten(2)
        summed = (coarse @ self._kernel).view(*coarse.shape[:2], *self._side)
        return F.interpolate(summed, values.shape[2:], mode="bilinear", align_corners=False)


def _gaussian_matrix(size: int, sigma: float, like: Tensor) -> Tensor:
    """exp(-(x - y)^2 / 2 sigma^2) between all pairs of places on a line: ``(size, size)``."""
    places = torch.arange(size, dtype=like.dtype, device=like.device)
    distance = (places[:, None] - places).abs() / sigma
    # values far below rounding would become denormal numbers, which slow the products down twentyfold
    return torch.exp(-0.5 * distance.square()).masked_fill(distance > TRUNCATE_SIGMAS, 0)


def _corners(places: Sequence[Tensor], limits: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The eight cells around each pixel and the pixel's shares in them.

    Args:
        places: Row, column and intensity of every pixel in cells, each ``(B, H, W)``.
        limits: Largest index along each axis.

    Returns:
        Eight flat cell indices over the whole batch and eight shares that sum to 1, each ``(B * H * W, 8)``.
    """
    lower = [place.floor().long().clamp(0, limit - 1) for place, limit in zip(places, limits, strict=True)]
    rest = [(place - low).clamp(0, 1) for place, low in zip(places, lower, strict=True)]
    batch = torch.arange(len(places[0]), device=places[0].device)[:, None, None]
    cells, shares = [], []
    for corner in product((0, 1), repeat=3):
        cell, share = batch, torch.ones_like(places[0])
        for axis, step in enumerate(corner):
            cell = cell * (limits[axis] + 1) + lower[axis] + step
            share = share * (rest[axis] if step else 1 - rest[axis])
        cells.append(cell.flatten())
        shares.append(share.flatten())
    return torch.stack(cells, dim=1), torch.stack(shares, dim=1)
