"""Puts DICOM slices in their anatomical order and finds the affine of the stack from their positions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medzeroseg.imaging.dicom_headers import Frame
from medzeroseg.imaging.errors import InputError
from medzeroseg.imaging.geometry import LPS_TO_RAS, Geometry

_SAME_PLACE_MM = 1e-2
_TILT_DEGREES = 0.1


@dataclass(frozen=True)
class Stack:
    """Slices in order.

    Attributes:
        frames: From the lowest place along the normal to the highest.
        geometry: None where the files hold no positions.
        notes: What was assumed or left out.
    """

    frames: tuple[Frame, ...]
    geometry: Geometry | None
    notes: tuple[str, ...]


def stack_frames(place: Path, frames: Sequence[Frame], uneven_steps: str, duplicate_positions: str) -> Stack:
    """Sort slices of one series and one direction, and find where they lie.

    Args:
        place: The file or folder, named in errors.
        frames: The slices, in any order.
        uneven_steps: "error" or "accept".
        duplicate_positions: "error" or "first".

    Raises:
        InputError: Positions are missing, recur, are uneven, or do not lie on a line; directions are not usable.
    """
    if any(frame.position_mm is None or frame.orientation is None or frame.spacing_mm is None for frame in frames):
        return _without_places(place, frames)
    row, column, normal = _directions(place, frames[0])
    frames, notes = _one_each_place(place, frames, normal, duplicate_positions)
    positions = np.array([frame.position_mm for frame in frames], dtype=np.float64)
    if len(frames) == 1:
        thickness = frames[0].thickness_mm
        if thickness is None:
            notes.append("a single slice of unknown thickness: 1 mm is assumed")
        step = normal * (thickness or 1.0)
    else:
        step = _step(place, positions, normal, uneven_steps, notes)
        thickness = frames[0].thickness_mm
        distance = float(np.linalg.norm(step))
        if thickness is not None and abs(thickness - distance) > _tolerance_mm(distance):
            notes.append(
                f"the header gives a slice distance or thickness of {thickness:g} mm, the positions {distance:.4g} mm; "
                "the positions are used"
            )
    between_rows, between_columns = frames[0].spacing_mm or (1.0, 1.0)
    affine = np.eye(4)
    affine[:3, :3] = np.stack([step, column * between_rows, row * between_columns], axis=1)
    affine[:3, 3] = positions[0]
    return Stack(tuple(frames), Geometry(LPS_TO_RAS @ affine), tuple(notes))


def _without_places(place: Path, frames: Sequence[Frame]) -> Stack:
    if len({frame.path for frame in frames}) > 1:
        raise InputError(
            f"{place}: the {len(frames)} images do not say where they lie (no position, orientation or pixel spacing), "
            "so they make no volume; read one file at a time"
        )
    notes = ("the frames do not say where they lie; they are in the order of the file",) if len(frames) > 1 else ()
    return Stack(tuple(frames), None, notes)


def _directions(place: Path, frame: Frame) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    cosines = np.array(frame.orientation, dtype=np.float64)
    row, column = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if not np.isfinite(cosines).all() or max(abs(length - 1) for length in lengths) > 0.01 or abs(row @ column) > 0.01:
        raise InputError(f"{place}: the image orientation in the DICOM header is no pair of right-angled directions")
    return row / lengths[0], column / lengths[1], np.cross(row, column) / (lengths[0] * lengths[1])


def _one_each_place(
    place: Path, frames: Sequence[Frame], normal: npt.NDArray[Any], duplicates: str
) -> tuple[list[Frame], list[str]]:
    # rounding only groups slices whose positions differ by float noise; ties go to the scanner's count, then the name
    ranked = sorted(
        frames,
        key=lambda frame: (_along(frame, normal), frame.instance_number, frame.number, str(frame.path)),
    )
    kept: list[Frame] = []
    at_place: list[list[Frame]] = []
    for frame in ranked:
        if at_place and _along(frame, normal) - _along(at_place[-1][0], normal) < _SAME_PLACE_MM:
            at_place[-1].append(frame)
        else:
            at_place.append([frame])
    crowded = [group for group in at_place if len(group) > 1]
    if crowded and duplicates == "error":
        most = max(len(group) for group in crowded)
        raise InputError(
            f"{place}: {len(crowded)} of {len(at_place)} slice positions hold up to {most} slices each (phases, echoes "
            "or copies); keep the wanted ones in a folder, or take the first of each with duplicate_positions=first"
        )
    for group in at_place:
        kept.append(min(group, key=lambda frame: (frame.instance_number, frame.number, str(frame.path))))
    left_out = len(frames) - len(kept)
    return kept, [f"{left_out} further slices at the same positions were left out"] if left_out else []


def _along(frame: Frame, normal: npt.NDArray[Any]) -> float:
    return float(np.dot(frame.position_mm or (0.0, 0.0, 0.0), normal))


def _tolerance_mm(step_mm: float) -> float:
    """Headers round positions to a tenth of a millimetre at worst; a missing slice is off by a whole step."""
    return min(max(0.1 * step_mm, 0.1), 0.5 * step_mm)


def _step(
    place: Path, positions: npt.NDArray[Any], normal: npt.NDArray[Any], uneven: str, notes: list[str]
) -> npt.NDArray[Any]:
    along = positions @ normal
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    off = np.flatnonzero(np.abs(gaps - usual) > _tolerance_mm(usual))
    if off.size:
        worst = int(off[np.argmax(np.abs(gaps[off] - usual))])
        what = (
            f"{off.size} steps between slices are uneven: {gaps[worst]:.4g} mm between slices {worst + 1} and "
            f"{worst + 2}, where the usual step is {usual:.4g} mm"
        )
        if uneven == "error":
            raise InputError(
                f"{place}: {what}; a slice is missing or too many: complete the series, or stack the slices as they "
                "are with uneven_steps=accept"
            )
        notes.append(f"{what}; the slices are stacked with the usual step")
    travel = positions[-1] - positions[0]
    direction = travel / (along[-1] - along[0])  # one millimetre along the normal
    sideways = positions - positions[0] - np.outer(along - along[0], direction)
    if np.abs(sideways).max() > _tolerance_mm(usual):
        raise InputError(f"{place}: the slices are shifted against each other and make no volume; read them one by one")
    tilt = float(np.degrees(np.arccos(min(1.0, 1.0 / float(np.linalg.norm(direction))))))
    if tilt > _TILT_DEGREES:
        notes.append(f"the slices are sheared by {tilt:.1f} degrees (gantry tilt); the affine keeps the shear")
    mean = float(along[-1] - along[0]) / len(gaps)
    result: npt.NDArray[Any] = direction * (usual if off.size else mean)
    return result
