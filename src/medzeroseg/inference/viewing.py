"""How an image is looked at: which words its modality has in the prompts, in which plane, through which window."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from medzeroseg.errors import ConfigurationError
from medzeroseg.imaging import (
    ABDOMEN_WINDOW_HU,
    WINDOWS_HU,
    FixedWindow,
    InputError,
    PercentileWindow,
    Volume,
    Window,
    to_display,
)
from medzeroseg.inference.request import SegmentationRequest, parse_bounds
from medzeroseg.prompts import ANY_MODALITY

MIN_SIDE_PX = 8
"""Smaller slices show nothing that could be segmented."""

_KINDS = {
    "CT": "CT",
    "MR": "MRI",
    **dict.fromkeys(("CR", "DX", "RG", "DR"), "X-ray"),
}
"""DICOM's code of the modality to the word with which a modality of the prompts ends."""
_AIR_HU = -900


@dataclass(frozen=True)
class View:
    """An image as it is looked at.

    Attributes:
        volume: In the plane's axes.
        grey: (D, H, W) float32 in [0, 1], windowed.
        modality: Whose templates the prompts use.
        plane: "axial", "coronal", "sagittal", or "stored".
        window: The intensities of black and white.
        notes: What was assumed, in sentences.
    """

    volume: Volume
    grey: npt.NDArray[np.float32]
    modality: str
    plane: str
    window: tuple[float, float]
    notes: tuple[str, ...]


def look_at(volume: Volume, path: Path, request: SegmentationRequest, modalities: Collection[str]) -> View:
    """Choose modality, plane and window, and apply them.

    Modality: the request's; else the one of `modalities` that ends with what the DICOM header says (CT, MRI, X-ray),
    if there is exactly one; else `any`. Plane: the request's; with "auto" MR, radiographs and pictures stay as stored
    and everything else is turned to axial. Window: see `choose_window`.

    Args:
        volume: As read.
        path: Its file, named in errors.
        request: What the user asks.
        modalities: Keys of the prompts' templates.

    Raises:
        ConfigurationError: The window asks for something that the file does not have.
        InputError: The slices are smaller than `MIN_SIDE_PX`.
    """
    notes: list[str] = []
    kind = _KINDS.get(volume.modality or "", "")
    modality = request.modality
    if modality is None:
        alike = [name for name in modalities if kind and name.endswith(kind)]
        modality = alike[0] if len(alike) == 1 else ANY_MODALITY
        if modality != ANY_MODALITY:
            notes.append(f"prompts and window are those of {modality}, since the header says {volume.modality}")
    kind = kind or next((word for word in _KINDS.values() if modality.endswith(word)), "")
    plane = request.plane
    if plane == "auto":
        plane = "stored" if kind in ("MRI", "X-ray") else "axial"
    view = to_display(volume, plane)
    plane = "stored" if view.geometry is None else plane
    if min(view.shape[1:]) < MIN_SIDE_PX:
        raise InputError(
            f"{path}: its slices have {view.shape[2]} x {view.shape[1]} pixels; at least {MIN_SIDE_PX} x {MIN_SIDE_PX} "
            "are needed to find anything"
        )
    window = choose_window(volume, path, request.window, kind, notes)
    low, high = window.bounds(volume.array)
    if low < high:
        window = FixedWindow(low, high)  # percentiles of a large volume take a second: once is enough
    else:
        notes.append("the image has no contrast within its window")
    grey = np.ascontiguousarray(window.apply(view.array))
    return View(view, grey, modality, plane, (low, high), tuple(notes))


def require_known(modality: str | None, modalities: Collection[str]) -> None:
    """Refuse a modality that has no templates.

    Raises:
        ConfigurationError: Names those that have.
    """
    if modality is not None and modality not in modalities:
        raise ConfigurationError(f"modality: {modality!r} is unknown; known: {', '.join(modalities)}")


def choose_window(volume: Volume, path: Path, asked: str | None, kind: str, notes: list[str]) -> Window:
    """The window: what was asked for, else by the kind of image.

    8-bit pictures are shown as they are, CT in the abdominal window, radiographs through the window of their header,
    everything else between percentiles 0.5 and 99.5 of the whole volume.

    Args:
        volume: As read.
        path: Its file, named in errors.
        asked: "LOW,HIGH", "percentiles", "percentiles:LOW,HIGH", "file", a key of `WINDOWS_HU`, or None.
        kind: "CT", "MRI", "X-ray", or "".
        notes: Doubts are appended.

    Raises:
        ConfigurationError: "file" was asked for, and the file asks for no window.
    """
    if asked is not None:
        return _asked_window(volume, path, asked)
    if volume.window == (0.0, 255.0):
        return FixedWindow(0.0, 255.0)
    if kind == "CT":
        return FixedWindow(*ABDOMEN_WINDOW_HU)
    if kind == "X-ray" and volume.window is not None:
        return FixedWindow(*volume.window)
    if not kind and volume.array.min() < _AIR_HU:
        notes.append(
            "values as low as those of air on CT: if this is a CT, give its modality or a window (abdomen, lung, ...)"
        )
    return PercentileWindow()


def _asked_window(volume: Volume, path: Path, asked: str) -> Window:
    if asked == "file":
        if volume.window is None:
            raise ConfigurationError(f"window: {path} asks for none; give LOW,HIGH or percentiles")
        return FixedWindow(*volume.window)
    if asked in WINDOWS_HU:
        return FixedWindow(*WINDOWS_HU[asked])
    bounds = parse_bounds(asked)
    if bounds is None:
        return PercentileWindow()
    return PercentileWindow(*bounds) if asked.startswith("percentiles") else FixedWindow(*bounds)
