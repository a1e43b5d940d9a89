"""Reads DICOM files and series folders as volumes: which slices belong together, in which order, at which step."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medzeroseg.imaging.dicom_headers import Frame, read_frames
from medzeroseg.imaging.dicom_pixels import decode_frames, inverted
from medzeroseg.imaging.dicom_stack import Stack, stack_frames
from medzeroseg.imaging.errors import InputError
from medzeroseg.imaging.files import read_bytes
from medzeroseg.imaging.nifti import luma
from medzeroseg.imaging.scaling import finite_float32
from medzeroseg.imaging.sniffing import looks_like_dicom
from medzeroseg.imaging.volume import Source, Volume

_SAME_DIRECTION = 1e-3


@dataclass(frozen=True)
class DicomSource(Source):
    """The frames of a volume, slice by slice.

    Attributes:
        frames: (file, number of the frame in it from 0) for each slice of the stored array.
    """

    frames: tuple[tuple[Path, int], ...]


def read_dicom_file(
    path: Path | str,
    *,
    series: int | None = None,
    uneven_steps: str = "error",
    duplicate_positions: str = "error",
) -> Volume:
    """Read one DICOM file: a slice, a radiograph, or a multi-frame (enhanced) scan.

    Args:
        path: The file.
        series: Which of several orientations a multi-frame file may hold, from 1.
        uneven_steps: As in `read_dicom_series`.
        duplicate_positions: As in `read_dicom_series`.

    Returns:
        The volume; frames of an enhanced scan are sorted by their place along the slice normal. Frames without
        places (a cine loop) stay in the order of the file, and `geometry` is None.

    Raises:
        InputError: As `read_dicom_series`.
    """
    path = Path(path)
    frames = read_frames(path)
    if not frames:
        raise InputError(f"{path}: this DICOM file holds no image")
    return _volume(path, frames, series, uneven_steps, duplicate_positions, [])


def read_dicom_series(
    folder: Path | str,
    *,
    series: int | None = None,
    uneven_steps: str = "error",
    duplicate_positions: str = "error",
) -> Volume:
    """Read the slices of a series from its folder.

    Slices are sorted by their place along the slice normal, never by file name or instance number, and their step is
    taken from the positions, not from the slice thickness. Under a gantry tilt the affine keeps the shear: nothing is
    resampled (a NIfTI mask can hold it, NRRD and MHA cannot). Localizers and files that are no images are left out
    and noted.

    Args:
        folder: The files lie directly in it.
        series: Which series, where the folder holds several, from 1 in the order that the error lists.
        uneven_steps: "error" where a slice is missing, or "accept": the slices are stacked with their usual step.
        duplicate_positions: "error" where several slices lie at one place (phases, echoes), or "first": the one with
            the lowest instance number.

    Returns:
        The volume; slices along the normal, rows and columns as stored.

    Raises:
        InputError: The folder is missing or holds no image; it holds several series; a slice is missing; positions
            recur; a file is damaged or its codec is not installed.
    """
    folder = Path(folder)
    frames, notes = _frames_of(folder)
    return _volume(folder, frames, series, uneven_steps, duplicate_positions, notes)


def _frames_of(folder: Path) -> tuple[list[Frame], list[str]]:
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        subfolders = sum(path.is_dir() for path in folder.iterdir())
    except FileNotFoundError:
        raise InputError(f"{folder}: there is no such folder") from None
    except NotADirectoryError:
        raise InputError(f"{folder}: this is a file, not the folder of a series") from None
    except PermissionError:
        raise InputError(f"{folder}: the folder may not be read (no permission)") from None
    frames: list[Frame] = []
    others = 0
    for path in files:
        found = []
        if path.stat().st_size > 0 and looks_like_dicom(read_bytes(path, 132)):
            found = read_frames(path)
        elif path.suffix.lower() == ".dcm":
            raise InputError(f"{path}: this is no DICOM file, or an empty one; fetch it again or remove it")
        others += not found
        frames += found
    if not frames:
        hint = f"; its {subfolders} subfolders are not searched: give one of them" if subfolders else ""
        raise InputError(f"{folder}: the folder holds no DICOM image{hint}")
    return frames, [f"{others} files that are no DICOM images were left out"] if others else []


def _volume(
    place: Path, frames: Sequence[Frame], series: int | None, uneven: str, duplicates: str, notes: list[str]
) -> Volume:
    frames, notes = _without_copies(frames, notes)
    group, notes = _choose(place, _groups(frames), series, notes)
    stack = stack_frames(place, group, uneven, duplicates)
    pixels = _decode(stack.frames)
    middle = stack.frames[len(stack.frames) // 2]
    colour = pixels.ndim == 4
    try:
        values, replaced = finite_float32(luma(pixels) if colour else pixels)
    except ValueError:
        raise InputError(f"{place}: no pixel holds a finite number; export it again") from None
    if replaced:
        notes = [*notes, f"{replaced:,} pixels that were not finite hold the lowest finite value instead"]
    return Volume(
        values,
        stack.geometry,
        spacing_mm=_spacing(stack),
        rgb=pixels if colour else None,
        window=(0.0, 255.0) if colour else _window(middle),
        modality=middle.modality or None,
        notes=(*notes, *stack.notes, *_doubts(middle, values)),
        source=DicomSource(tuple((frame.path, frame.number) for frame in stack.frames)),
    )


def _without_copies(frames: Sequence[Frame], notes: list[str]) -> tuple[list[Frame], list[str]]:
    """Drop files that are in the folder twice (the same instance under two names)."""
    kept: dict[tuple[str, int], Frame] = {}
    for frame in frames:
        kept.setdefault((frame.instance or str(frame.path), frame.number), frame)
    copies = len(frames) - len(kept)
    return list(kept.values()), [*notes, f"{copies} copies of slices were left out"] if copies else notes


def _groups(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Frames of one series, one size and one direction; a multi-frame file stands for itself."""

    def kind(frame: Frame) -> tuple[Any, ...]:
        file = str(frame.path) if frame.multi_frame else ""
        return (frame.modality, frame.series, file, frame.rows, frame.columns, frame.samples, frame.localizer)

    groups: list[list[Frame]] = []
    for _, alike in groupby(sorted(frames, key=kind), key=kind):
        by_direction: list[list[Frame]] = []
        for frame in alike:
            for group in by_direction:
                if _same_direction(frame, group[0]):
                    group.append(frame)
                    break
            else:
                by_direction.append([frame])
        groups += by_direction
    return groups


def _same_direction(first: Frame, second: Frame) -> bool:
    if first.orientation is None or second.orientation is None:
        return first.orientation is second.orientation
    return bool(np.allclose(first.orientation, second.orientation, atol=_SAME_DIRECTION))


def _choose(
    place: Path, groups: list[list[Frame]], series: int | None, notes: list[str]
) -> tuple[list[Frame], list[str]]:
    scans = [group for group in groups if not group[0].localizer]
    scouts = sum(len(group) for group in groups) - sum(len(group) for group in scans)
    if scans and scouts:
        groups, notes = scans, [*notes, f"{scouts} localizer images were left out"]
    if series is None and len(groups) == 1:
        return groups[0], notes
    listing = "; ".join(f"series={number}: {_describe(group)}" for number, group in enumerate(groups, 1))
    if series is None:
        raise InputError(f"{place}: the scan holds {len(groups)} series; choose one: {listing}")
    if not 1 <= series <= len(groups):
        raise InputError(f"{place}: there is no series={series}; choose one: {listing}")
    return groups[series - 1], notes


def _describe(group: list[Frame]) -> str:
    """Modality, count and size only: series descriptions are free text and may name the patient."""
    first = group[0]
    what = "colour images" if first.samples > 1 else "slices"
    return f"{first.modality or 'unknown modality'}, {len(group)} {what} of {first.columns} x {first.rows} pixels"


def _decode(frames: Sequence[Frame]) -> npt.NDArray[Any]:
    by_file: dict[Path, list[int]] = {}
    for index, frame in enumerate(frames):
        by_file.setdefault(frame.path, []).append(index)
    pieces: list[npt.NDArray[Any] | None] = [None] * len(frames)
    for path, indices in by_file.items():
        decoded = decode_frames(path, [frames[index] for index in indices])
        for index, piece in zip(indices, decoded, strict=True):
            pieces[index] = piece
    pixels = np.stack([piece for piece in pieces if piece is not None])
    return pixels.astype(np.float32) if pixels.dtype == np.float64 else pixels


def _window(frame: Frame) -> tuple[float, float] | None:
    if frame.window is None:
        return None
    low, high = frame.window
    is_inverted, ends = inverted(frame.path)
    if is_inverted:
        mirror = frame.slope * ends + 2 * frame.intercept
        low, high = mirror - high, mirror - low
    return low, high


def _doubts(frame: Frame, values: npt.NDArray[Any]) -> tuple[str, ...]:
    if frame.modality == "CT" and (frame.slope, frame.intercept) == (1.0, 0.0) and values.min() >= 0:
        return ("a CT without rescale factors and negative values: its numbers may not be Hounsfield units",)
    return ()


def _spacing(stack: Stack) -> tuple[float, float, float] | None:
    spacing = stack.frames[0].spacing_mm
    return None if spacing is None else (float("nan"), *spacing)
