"""Deformed ellipses on a square grid, with anti-aliased edges.

Coordinates are normalised: x to the right and y downwards, both from -1 to 1 over the field of view, so that
an anatomy is the same at every image size.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

FloatImage = NDArray[np.float32]
LabelImage = NDArray[np.uint8]

_HARMONICS = (2, 3, 4, 5)  # of the boundary: the first would only shift it, higher ones look jagged at 128 px
_HARMONICS_NORM = math.sqrt(sum(1 / order**2 for order in _HARMONICS))
_LINE_SUPERSAMPLING = 2


@dataclass(frozen=True, eq=False)
class Grid:
    """Pixel centres of a square image.

    Args:
        size_px: Width and height of the image.
        axis: Coordinates of the pixel centres along either side, shape `(size_px,)`.
        pixel: Width of a pixel in normalised units.
    """

    size_px: int
    axis: FloatImage
    pixel: float

    @property
    def x(self) -> FloatImage:
        """Horizontal coordinates, shape `(1, size_px)`."""
        return self.axis[None, :]

    @property
    def y(self) -> FloatImage:
        """Vertical coordinates, shape `(size_px, 1)`."""
        return self.axis[:, None]

    def zeros(self) -> FloatImage:
        """An image of zeros, shape `(size_px, size_px)`."""
        return np.zeros((self.size_px, self.size_px), np.float32)

    def span(self, centre: float, reach: float) -> slice:
        """The pixels along one side that lie within `reach` of `centre`."""
        first = int(np.floor((centre - reach + 1) / self.pixel)) - 1
        last = int(np.ceil((centre + reach + 1) / self.pixel)) + 1
        return slice(min(max(first, 0), self.size_px), min(max(last, 0), self.size_px))


@lru_cache(maxsize=8)
def make_grid(size_px: int) -> Grid:
    """Return the grid of an image of `size_px` x `size_px` pixels."""
    pixel = 2.0 / size_px
    axis = ((np.arange(size_px) + 0.5) * pixel - 1).astype(np.float32)
    axis.setflags(write=False)
    return Grid(size_px, axis, pixel)


@dataclass(frozen=True)
class Blob:
    """An ellipse whose boundary is modulated by a few Fourier harmonics.

    In the frame of the ellipse its boundary is `r(theta) = 1 + Re(sum_k wobble_k exp(-i (k + 2) theta))`.

    Args:
        x: Centre, to the right.
        y: Centre, downwards.
        rx: Half axis along x before the tilt.
        ry: Half axis along y before the tilt.
        tilt_rad: Rotation, clockwise on the screen.
        wobble: Complex amplitudes of the harmonics 2, 3, ...
    """

    x: float
    y: float
    rx: float
    ry: float
    tilt_rad: float = 0.0
    wobble: tuple[complex, ...] = ()

    def grown(self, margin: float) -> "Blob":
        """The same shape with both half axes longer by `margin` (shorter when negative)."""
        return replace(self, rx=max(self.rx + margin, 1e-3), ry=max(self.ry + margin, 1e-3))

    def scaled(self, factor: float) -> "Blob":
        """The same shape, `factor` times as large."""
        return replace(self, rx=self.rx * factor, ry=self.ry * factor)


def random_blob(
    rng: np.random.Generator,
    x: float,
    y: float,
    rx: float,
    ry: float,
    *,
    tilt_rad: float = 0.0,
    wobble: float = 0.05,
    jitter: float = 0.0,
) -> Blob:
    """Return a blob near the given one.

    Args:
        rng: Source of the deformation; the number of draws is the same for all arguments.
        x: Mean centre, to the right.
        y: Mean centre, downwards.
        rx: Mean half axis along x.
        ry: Mean half axis along y.
        tilt_rad: Mean tilt.
        wobble: Standard deviation of the boundary, relative to its radius.
        jitter: Half width of the uniform displacement of the centre; axes vary by up to 6 %.
    """
    place = rng.uniform(-1, 1, 5).tolist()
    raw = rng.standard_normal(2 * len(_HARMONICS)).tolist()
    amplitudes = tuple(
        complex(raw[2 * i], raw[2 * i + 1]) * (wobble / (order * _HARMONICS_NORM)) for i, order in enumerate(_HARMONICS)
    )
    return Blob(
        x + jitter * place[0],
        y + jitter * place[1],
        rx * (1 + 0.06 * place[2]),
        ry * (1 + 0.06 * place[3]),
        tilt_rad + 0.08 * place[4],
        amplitudes,
    )


def coverage(grid: Grid, blob: Blob, softness: float | None = None) -> FloatImage:
    """Return how much of each pixel the blob covers, 0 to 1, shape `(size_px, size_px)`.

    Args:
        grid: Pixel grid.
        blob: Shape.
        softness: Width of the transition at the edge in normalised units; one pixel when not given.
    """
    width = max(softness or 0.0, grid.pixel)
    spread = sum(abs(a) for a in blob.wobble)
    reach = max(blob.rx, blob.ry) * (1 + spread) + width
    rows, columns = grid.span(blob.y, reach), grid.span(blob.x, reach)
    result = grid.zeros()
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return result
    dx = grid.axis[None, columns] - np.float32(blob.x)
    dy = grid.axis[rows, None] - np.float32(blob.y)
    cos, sin = math.cos(blob.tilt_rad), math.sin(blob.tilt_rad)
    px = np.float32(cos / blob.rx) * dx + np.float32(sin / blob.rx) * dy
    py = np.float32(cos / blob.ry) * dy - np.float32(sin / blob.ry) * dx
    square = px * px + py * py
    # The boundary is worked out in a ring around the ellipse only; most pixels are plainly in or out.
    margin = spread + 0.5 * width / min(blob.rx, blob.ry) + 1e-3
    inside = square < np.float32(max(1 - margin, 0.0) ** 2)
    ring = np.flatnonzero(inside ^ (square < np.float32((1 + margin) ** 2)))
    part = inside.astype(np.float32)
    px, py = px.ravel()[ring], py.ravel()[ring]
    radius = np.sqrt(square.ravel()[ring]) + np.float32(1e-6)
    excess = radius - np.float32(1)
    if blob.wobble:
        turn = np.empty(ring.size, np.complex64)
        turn.real, turn.imag = px / radius, -py / radius
        series = np.full(ring.size, blob.wobble[-1], np.complex64)
        for amplitude in reversed(blob.wobble[:-1]):  # Horner's rule
            series *= turn
            series += np.complex64(amplitude)
        series *= turn
        series *= turn
        excess -= series.real
    # First-order distance to the boundary: the level function over the length of its gradient.
    px *= np.float32(1 / blob.rx)
    py *= np.float32(1 / blob.ry)
    slope = np.sqrt(px * px + py * py) / radius
    edge = np.float32(0.5) - excess / (slope * np.float32(width) + np.float32(1e-9))
    part.ravel()[ring] = np.minimum(np.maximum(edge, np.float32(0)), np.float32(1))
    result[rows, columns] = part
    return result


def half_plane(grid: Grid, x: float, y: float, angle_rad: float, softness: float | None = None) -> FloatImage:
    """Return the coverage of the half plane that starts at (x, y) and extends towards `angle_rad`.

    Angles are measured from the x axis towards the y axis, so clockwise on the screen.
    """
    width = max(softness or 0.0, grid.pixel)
    along = (grid.x - np.float32(x)) * np.float32(np.cos(angle_rad))
    along = along + (grid.y - np.float32(y)) * np.float32(np.sin(angle_rad))
    return np.asarray(np.clip(0.5 + along / np.float32(width), 0, 1), np.float32)


def sector(grid: Grid, x: float, y: float, angle_rad: float, half_width_rad: float) -> FloatImage:
    """Return the coverage of the sector at (x, y) within `half_width_rad` of the direction `angle_rad`."""
    dx, dy = grid.x - np.float32(x), grid.y - np.float32(y)
    radius = np.sqrt(dx * dx + dy * dy) + np.float32(1e-6)
    along = (dx * np.float32(np.cos(angle_rad)) + dy * np.float32(np.sin(angle_rad))) / radius
    return np.asarray(np.clip(0.5 + (along - math.cos(half_width_rad)) * 8, 0, 1), np.float32)


def lines(grid: Grid, paths: list[list[tuple[float, float]]], widths: list[float]) -> FloatImage:
    """Return the coverage of polylines, 0 to 1.

    Args:
        grid: Pixel grid.
        paths: Points (x, y) of each line in normalised units.
        widths: Width of each line in normalised units.
    """
    size = grid.size_px * _LINE_SUPERSAMPLING
    image = Image.new("L", (size, size))
    draw = ImageDraw.Draw(image)
    for path, width in zip(paths, widths, strict=True):
        points = [((x + 1) * size / 2, (y + 1) * size / 2) for x, y in path]
        draw.line(points, fill=255, width=max(1, round(width * size / 2)))
    small = image.resize((grid.size_px, grid.size_px), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255)
