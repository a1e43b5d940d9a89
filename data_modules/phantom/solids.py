"""Solid shapes as a family of outlines along the body: what a slice at some height cuts out of them.

Coordinates as in `geometry`; z points to the head, in the same normalised units.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from data_modules.phantom.geometry import Blob, FloatImage, Grid, coverage, random_blob

if TYPE_CHECKING:
    from scipy.interpolate import PchipInterpolator

_TWIST_PER_UNIT = 2.5  # how fast the wobble of an outline changes along z, in rad


class Solid(Protocol):
    """Anything that a slice can be cut out of."""

    def cut(self, grid: Grid, z: float, margin: float = 0.0) -> FloatImage:
        """Return the coverage at height `z` of the shape grown by `margin`, shape `(H, W)`."""
        ...


@dataclass(frozen=True)
class Outline:
    """Where a course passes at one height.

    Args:
        z: Height.
        x: Centre, to the right of the picture.
        y: Centre, downwards.
        rx: Half axis along x before the tilt.
        ry: Half axis along y before the tilt.
        tilt_rad: Rotation, clockwise on the screen.
    """

    z: float
    x: float
    y: float
    rx: float
    ry: float
    tilt_rad: float = 0.0


@dataclass(frozen=True)
class Course:
    """An organ along the body: outlines joined by monotone cubics, its ends closed by half ellipsoids.

    Args:
        outlines: From the lowest to the highest, at least two.
        low_cap: Length over which the lower end closes, 0 for an end outside the volume.
        high_cap: Length over which the upper end closes.
        offset: What x, y and z are shifted by.
        scale: Factors of rx and ry.
        tilt_rad: Added to the tilt.
        wobble: Amplitudes of the boundary's harmonics (see `Blob`).
        other_wobble: Those a quarter turn further along z.
    """

    outlines: tuple[Outline, ...]
    low_cap: float = 0.0
    high_cap: float = 0.0
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float] = (1.0, 1.0)
    tilt_rad: float = 0.0
    wobble: tuple[complex, ...] = ()
    other_wobble: tuple[complex, ...] = ()

    def varied(self, rng: np.random.Generator, *, wobble: float = 0.04, jitter: float = 0.015) -> "Course":
        """Return one person's version of the course.

        Args:
            rng: Source of the deformation.
            wobble: Standard deviation of the boundary, relative to its radius.
            jitter: Half width of the uniform shift along each axis; half axes vary by up to 6 %.
        """
        first = random_blob(rng, 0, 0, 1, 1, wobble=wobble, jitter=jitter)
        other = random_blob(rng, 0, 0, 1, 1, wobble=wobble, jitter=jitter)
        return Course(
            self.outlines,
            self.low_cap,
            self.high_cap,
            (first.x, first.y, other.x),
            (first.rx, first.ry),
            first.tilt_rad,
            first.wobble,
            other.wobble,
        )

    @cached_property
    def _curve(self) -> "PchipInterpolator":
        z = [outline.z for outline in self.outlines]
        return _monotone(z, [(o.x, o.y, o.rx, o.ry, o.tilt_rad) for o in self.outlines])

    @property
    def ends(self) -> tuple[float, float]:
        """Heights of both ends."""
        return self.outlines[0].z + self.offset[2], self.outlines[-1].z + self.offset[2]

    def at(self, z: float) -> Blob | None:
        """Return the outline at a height, `None` beyond an end."""
        low, high = self.ends
        if not low < z < high:
            return None
        x, y, rx, ry, tilt = self._curve(z - self.offset[2]).tolist()
        close = _closing(z - low, self.low_cap) * _closing(high - z, self.high_cap)
        turn = _TWIST_PER_UNIT * z
        wobble = tuple(
            a * float(np.cos(turn)) + b * float(np.sin(turn))
            for a, b in zip(self.wobble, self.other_wobble, strict=True)
        )
        return Blob(
            x + self.offset[0],
            y + self.offset[1],
            rx * self.scale[0] * close,
            ry * self.scale[1] * close,
            tilt + self.tilt_rad,
            wobble,
        )

    def cut(self, grid: Grid, z: float, margin: float = 0.0) -> FloatImage:
        """Return the coverage at height `z` of the shape grown by `margin` within its slices."""
        blob = self.at(z)
        return grid.zeros() if blob is None or min(blob.rx, blob.ry) < 0.005 else coverage(grid, blob.grown(margin))


@dataclass(frozen=True)
class Tube:
    """A bent tube of varying calibre: a string of balls.

    Args:
        points: `(x, y, z, radius)` of points along it.
    """

    points: tuple[tuple[float, float, float, float], ...]

    def varied(self, rng: np.random.Generator, *, jitter: float = 0.012) -> "Tube":
        """Return one person's version, shifted along each axis by up to `jitter`, its calibre by up to 8 %."""
        shift = (*(jitter * rng.uniform(-1, 1, 3)).tolist(), 0.0)
        wide = 1 + 0.08 * float(rng.uniform(-1, 1))
        moved = (tuple(a + b for a, b in zip(point, shift, strict=True)) for point in self.points)
        return Tube(tuple((x, y, z, wide * radius) for x, y, z, radius in moved))

    @cached_property
    def _balls(self) -> NDArray[np.float64]:
        points = np.array(self.points)
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points[:, :3], axis=0), axis=1))])
        count = max(2, int(np.ceil(2.5 * length[-1] / points[:, 3].min())))
        return np.asarray(_monotone(length, points)(np.linspace(0, length[-1], count)), np.float64)

    def cut(self, grid: Grid, z: float, margin: float = 0.0) -> FloatImage:
        """Return the coverage at height `z` of the tube grown by `margin`."""
        x, y, height, radius = self._balls.T
        square = (radius + margin) ** 2 - (height - z) ** 2
        cover = grid.zeros()
        for index in np.flatnonzero(square > (0.4 * grid.pixel) ** 2):
            across = float(np.sqrt(square[index]))
            np.maximum(cover, coverage(grid, Blob(float(x[index]), float(y[index]), across, across)), out=cover)
        return cover


def _closing(depth: float, cap: float) -> float:
    """Relative radius of a half ellipsoid of length `cap` at a depth below its tip."""
    if depth >= cap:
        return 1.0
    return float(np.sqrt(max(1 - ((cap - depth) / cap) ** 2, 0.0)))


def _monotone(x: npt.ArrayLike, y: npt.ArrayLike) -> "PchipInterpolator":
    from scipy.interpolate import PchipInterpolator  # here, as it slows the start of every command by a second

    return PchipInterpolator(x, y)
