"""Where voxels lie in the patient: affine, spacing, orientation, and the axis changes that need no resampling.

MONAI's `Spacing` and `Orientation` are not used here: they work on torch tensors in (i, j, k) order and leave the
whole source header in the image's metadata, where a patient's name may be.
"""

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM and ITK count towards the patient's left and back, NIfTI towards the right and front; it is its own inverse."""

_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))

PLANES = {"axial": "SPL", "coronal": "PIL", "sagittal": "LIP"}
"""Directions in which (slice, row, column) grow where radiologists look: axial slices from the feet, rows from the
front, columns from the patient's right; coronal rows from the head; sagittal columns from the front."""


@dataclass(frozen=True, slots=True)
class AxisLayout:
    """An axis permutation and flips, and so an exact, invertible way to look at the same voxels.

    Attributes:
        order: Which stored axis each axis of the view is.
        flips: Whether each axis of the view runs against its stored axis.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    flips: tuple[bool, bool, bool] = (False, False, False)

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn stored axes (D, H, W, ...) into those of the view; a NumPy view, nothing is copied."""
        further = tuple(range(3, array.ndim))
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        return array.transpose(*self.order, *further)[steps]

    def undo(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Turn axes of the view back into stored ones: the inverse of `apply`."""
        return self.inverse().apply(array)

    def inverse(self) -> "AxisLayout":
        """The layout that leads back: `layout.then(layout.inverse())` changes nothing."""
        order = tuple(self.order.index(axis) for axis in range(3))
        flips = tuple(self.flips[axis] for axis in order)
        return AxisLayout((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))

    def then(self, second: "AxisLayout") -> "AxisLayout":
        """The layout that equals this one followed by `second`."""
        order = tuple(self.order[axis] for axis in second.order)
        flips = tuple(self.flips[axis] != flip for axis, flip in zip(second.order, second.flips, strict=True))
        return AxisLayout((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))


@dataclass(frozen=True)
class Geometry:
    """The place of a (D, H, W) array in the patient.

    Attributes:
        affine_ras_mm: (4, 4) float64; maps the array index (d, h, w, 1) to millimetres in the patient's RAS axes
            (+x right, +y front, +z head). Its columns may be oblique, or sheared by a gantry tilt. It is NIfTI's
            affine with its first three columns reversed.

    Raises:
        ValueError: The affine is not (4, 4), not finite, or singular.
    """

    affine_ras_mm: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuse what is no place in space."""
        affine = np.array(self.affine_ras_mm, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise ValueError(f"affine_ras_mm: expected a finite (4, 4) matrix, got shape {affine.shape}")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if (lengths == 0).any() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
            raise ValueError("affine_ras_mm: its axes have no length or lie in one plane")
        affine.setflags(write=False)
        object.__setattr__(self, "affine_ras_mm", affine)

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between neighbours along (D, H, W), in mm; along the sheared axis under a gantry tilt."""
        d, h, w = np.linalg.norm(self.affine_ras_mm[:3, :3], axis=0).tolist()
        return d, h, w

    @property
    def orientation(self) -> str:
        """Three letters: the patient direction in which the index of D, of H and of W grows, as in "SPL".

        An oblique axis counts as its nearest direction. Read backwards it is NIfTI's code of (i, j, k).
        """
        letters = []
        for axis, world in enumerate(self._nearest_directions()):
            letters.append(_LETTERS[world][int(self.affine_ras_mm[world, axis] > 0)])
        return "".join(letters)

    def layout_towards(self, orientation: str) -> AxisLayout:
        """Find the permutation and flips after which the axes grow in given directions.

        Args:
            orientation: Three letters as in `orientation`, each of L/R, P/A and I/S once.

        Raises:
            ValueError: The letters are no orientation.
        """
        wanted = []
        for letter in orientation:
            worlds = [world for world, pair in enumerate(_LETTERS) if letter in pair]
            wanted.append((worlds[0] if worlds else -1, letter))
        if sorted(world for world, _ in wanted) != [0, 1, 2]:
            raise ValueError(f"orientation: expected three letters such as 'SPL', got {orientation!r}")
        now = self.orientation
        directions = self._nearest_directions()
        order = tuple(directions.index(world) for world, _ in wanted)
        flips = tuple(now[axis] != letter for axis, (_, letter) in zip(order, wanted, strict=True))
        return AxisLayout((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))

    def seen_through(self, layout: AxisLayout, shape: tuple[int, int, int]) -> "Geometry":
        """The geometry of an array of `shape` after `layout` was applied to it: every voxel stays where it is."""
        affine = np.eye(4)
        affine[:3, 3] = self.affine_ras_mm[:3, 3]
        for view_axis, (axis, flip) in enumerate(zip(layout.order, layout.flips, strict=True)):
            column = self.affine_ras_mm[:3, axis]
            affine[:3, view_axis] = -column if flip else column
            if flip:
                affine[:3, 3] += column * (shape[axis] - 1)
        return Geometry(affine)

    def _nearest_directions(self) -> tuple[int, ...]:
        """The world axis (0 x, 1 y, 2 z) nearest to each array axis, each used once, best in total."""
        linear = self.affine_ras_mm[:3, :3]
        cosines = np.abs(linear / np.linalg.norm(linear, axis=0))
        return max(permutations(range(3)), key=lambda worlds: sum(cosines[w, a] for a, w in enumerate(worlds)))
