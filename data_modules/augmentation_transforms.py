"""Deterministic changes of a slice and of its label map; `augmentation` draws their parameters.

The two kinds of array have types of their own: a change of intensity takes a `GreyImage` (float32) and cannot be
given a `LabelMap` (uint8), neither past the type checker nor at run time. Only `Geometry` touches both, with one
sampling grid.

MONAI has transforms for each step. They are not used: its random transforms keep what they drew in private state,
so that a draw can be neither logged nor replayed; image and labels go through two grids; and a slice takes 3 to 6
times as long.
"""

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage

GreyImage: TypeAlias = npt.NDArray[np.float32]
"""(H, W) in [0, 1]."""
LabelMap: TypeAlias = npt.NDArray[np.uint8]
"""(H, W) label ids."""

BIAS_FIELD_DEGREE = 3
"""Highest total degree of a bias field's Legendre polynomials, as in NiftyNet and MONAI."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """A similarity transform about the image's centre, and a mirroring before it.

    Attributes:
        rotation_deg: Turns the picture clockwise.
        scale: Over 1 enlarges.
        shift: Downwards and to the right, as shares of height and width.
        flip_left_right: Mirror the picture: the anatomy's left becomes its right.
    """

    rotation_deg: float = 0.0
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    flip_left_right: bool = False

    def apply(self, image: GreyImage, mask: LabelMap) -> tuple[GreyImage, LabelMap]:
        """Move image (bilinear) and labels (nearest) with the same grid; what comes in from outside is 0.

        Args:
            image: (H, W).
            mask: (H, W).

        Raises:
            ValueError: The two differ in shape, or have types that are not theirs.
        """
        check_pair(image, mask)
        if self == Geometry():
            return image, mask
        height, width = image.shape
        grid = _grid(self._output_to_input(height, width), height, width)
        moved = _sample(image, grid, "bilinear")
        # Ids are whole numbers up to 255: exact in float32, and nearest makes no new ones.
        return moved, _sample(mask.astype(np.float32), grid, "nearest").astype(np.uint8)

    def _output_to_input(self, height: int, width: int) -> list[list[float]]:
        """Give the affine map (2, 3) from output to input places, in grid_sample's coordinates (x, y) in [-1, 1]."""
        angle = math.radians(self.rotation_deg)
        cos, sin = math.cos(angle) / self.scale, math.sin(angle) / self.scale
        # Angles are kept in pixels, not in shares of the sides: nothing is sheared when height and width differ.
        x_of_x, x_of_y, y_of_x, y_of_y = cos, sin * height / width, -sin * width / height, cos
        down, right = 2 * self.shift[0], 2 * self.shift[1]
        rows = [
            [x_of_x, x_of_y, -(x_of_x * right + x_of_y * down)],
            [y_of_x, y_of_y, -(y_of_x * right + y_of_y * down)],
        ]
        if self.flip_left_right:
            rows[0] = [-value for value in rows[0]]
        return rows


def _grid(rows: list[list[float]], height: int, width: int) -> torch.Tensor:
    """As torch's `affine_grid`, from sums of a row and a column: a fraction of the time of its matrix product."""
    x, y = (((2 * np.arange(size) + 1) / size - 1).astype(np.float32) for size in (width, height))
    grid = np.empty((1, height, width, 2), dtype=np.float32)
    for axis, (of_x, of_y, shift) in enumerate(np.asarray(rows, dtype=np.float32)):
        np.add((of_y * y + shift)[:, None], of_x * x, out=grid[0, :, :, axis])
    return torch.from_numpy(grid)


def _sample(array: GreyImage, grid: torch.Tensor, mode: str) -> GreyImage:
    values = torch.from_numpy(np.ascontiguousarray(array))[None, None]
    moved: GreyImage = F.grid_sample(values, grid, mode=mode, padding_mode="zeros", align_corners=False)[0, 0].numpy()
    return moved


@dataclass(frozen=True, slots=True)
class Intensity:
    """Changes of grey values in [0, 1], applied in the order of the attributes; the result is clipped to [0, 1].

    Attributes:
        bias_coefficients: Legendre coefficients of the logarithm of a smooth gain (MR coils), in the order
            of `bias_field`; () for none.
        gamma: Exponent: over 1 darkens the middle greys.
        contrast: Stretches the values about their mean.
        brightness: Added.
        blur_sigma_px: Standard deviation of a Gaussian blur, pixels.
        noise_std: Standard deviation of the noise in each channel.
        noise_seed: Seed of the noise.
        rician: Noise of a magnitude image (MR) instead of added Gaussian noise.
    """

    bias_coefficients: tuple[float, ...] = ()
    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0
    blur_sigma_px: float = 0.0
    noise_std: float = 0.0
    noise_seed: int = 0
    rician: bool = False

    def apply(self, image: GreyImage) -> GreyImage:
        """Change the grey values.

        Args:
            image: (H, W) in [0, 1].

        Raises:
            ValueError: It is no float32 image: labels have no intensities.
        """
        check_image(image)
        values = image
        if self.bias_coefficients:
            values = values * bias_field(image.shape, self.bias_coefficients)
        if self.gamma != 1:
            # A bias field may have lifted values over 1; a power of them is defined, too.
            values = values**self.gamma
        if self.contrast != 1:
            mean = values.mean()
            values = (values - mean) * self.contrast + mean
        if self.brightness:
            values = values + self.brightness
        if self.blur_sigma_px:
            values = ndimage.gaussian_filter(values, self.blur_sigma_px, mode="nearest")
        if self.noise_std:
            values = self._with_noise(values)
        return values if values is image else np.clip(values, 0, 1).astype(np.float32)

    def _with_noise(self, values: GreyImage) -> GreyImage:
        rng = np.random.default_rng(self.noise_seed)
        real = values + self.noise_std * rng.standard_normal(values.shape, dtype=np.float32)
        if not self.rician:
            return real
        magnitude: GreyImage = np.hypot(real, self.noise_std * rng.standard_normal(values.shape, dtype=np.float32))
        return magnitude


def bias_field_terms(degree: int = BIAS_FIELD_DEGREE) -> int:
    """Count the coefficients of a bias field: the products of total degree 1 to `degree`."""
    return (degree + 1) * (degree + 2) // 2 - 1


def bias_field(shape: tuple[int, ...], coefficients: tuple[float, ...]) -> GreyImage:
    """Compute a smooth gain: the exponential of a sum of Legendre polynomials (Van Leemput et al., TMI 1999).

    Args:
        shape: (H, W).
        coefficients: Of P_i(row) P_j(column), 1 <= i + j <= 3, by i, then by j.

    Returns:
        (H, W), about 1.

    Raises:
        ValueError: Their number is wrong.
    """
    if len(coefficients) != bias_field_terms():
        raise ValueError(f"bias_coefficients: expected {bias_field_terms()}, got {len(coefficients)}")
    matrix = np.zeros((BIAS_FIELD_DEGREE + 1, BIAS_FIELD_DEGREE + 1))
    places = [(i, j) for i in range(len(matrix)) for j in range(len(matrix)) if 1 <= i + j <= BIAS_FIELD_DEGREE]
    for place, value in zip(places, coefficients, strict=True):
        matrix[place] = value
    rows, columns = (np.polynomial.legendre.legvander(np.linspace(-1, 1, size), BIAS_FIELD_DEGREE) for size in shape)
    gain: GreyImage = np.exp((rows @ matrix @ columns.T).astype(np.float32))
    return gain


def check_image(image: GreyImage) -> None:
    """Refuse what is no grey image.

    Raises:
        ValueError: It is not float32 or not (H, W).
    """
    if image.dtype != np.float32 or image.ndim != 2:
        raise ValueError(f"image: expected float32 (H, W), got {image.dtype} {image.shape}")


def check_pair(image: GreyImage, mask: LabelMap) -> None:
    """Refuse an image and a label map that do not belong together.

    Raises:
        ValueError: A type is wrong, or they differ in shape.
    """
    check_image(image)
    if mask.dtype != np.uint8 or mask.shape != image.shape:
        raise ValueError(f"mask: expected uint8 {image.shape} as the image, got {mask.dtype} {mask.shape}")
