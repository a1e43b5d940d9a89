"""A decoded scan or picture, and the way radiologists look at it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from medzeroseg.imaging.geometry import PLANES, AxisLayout, Geometry

Grid = npt.NDArray[Any]


_STORED = AxisLayout()


class Source:
    """What a reader remembers of a file, so that a mask can be written back on it; holds no patient data."""


@dataclass(frozen=True)
class Volume:
    """Intensities on a grid, in the axis order of the file or of a view of it.

    Attributes:
        array: (D, H, W); the file's integer type, or float32 where values are scaled or fractional; always finite,
            and read-only where it is the file's own buffer. CT is in Hounsfield units. Fresh from a reader: slices
            as stored, rows before columns (for NIfTI the file's axes reversed: k, j, i). A picture has D = 1; a
            colour one holds its luma here.
        geometry: Where the voxels lie in the patient; None where the file does not say.
        spacing_mm: (between slices, rows, columns), NaN for what is not known; None when nothing is.
        rgb: (D, H, W, 3) uint8 of a colour picture, else None.
        window: (low, high) intensities that the file asks to be shown as black and white, if it does.
        modality: DICOM's code ("CT", "MR", "DX"), or None.
        notes: What the reader left out, replaced or had to assume, in sentences for the user, without patient data.
        source: What a writer needs to lay a mask back on the file.
        layout: How `array` is laid out with respect to the file's own axes.
    """

    array: Grid
    geometry: Geometry | None = None
    spacing_mm: tuple[float, float, float] | None = None
    rgb: npt.NDArray[np.uint8] | None = None
    window: tuple[float, float] | None = None
    modality: str | None = None
    notes: tuple[str, ...] = ()
    source: Source | None = None
    layout: AxisLayout = _STORED

    def __post_init__(self) -> None:
        """Check the shape, and take the spacing from the geometry where there is one."""
        if self.array.ndim != 3 or 0 in self.array.shape:
            raise ValueError(f"array: expected (D, H, W) with at least one voxel, got {self.array.shape}")
        if self.rgb is not None and self.rgb.shape != (*self.array.shape, 3):
            raise ValueError(f"rgb: expected {(*self.array.shape, 3)}, got {self.rgb.shape}")
        if self.geometry is not None:
            object.__setattr__(self, "spacing_mm", self.geometry.spacing_mm)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        d, h, w = self.array.shape
        return d, h, w


def to_display(volume: Volume, plane: str = "axial") -> Volume:
    """Look at a volume as radiologists do, by exact axis changes: no voxel is resampled or copied.

    In the axial plane slice 0 is the one nearest the feet, row 0 the front, column 0 the patient's right. An oblique
    scan is turned to the nearest such view and stays oblique.

    Args:
        volume: A volume as read, or any view of one.
        plane: "axial", "coronal" or "sagittal"; "stored" goes back to the file's own axes.

    Returns:
        The view; its geometry tells where its voxels are. A volume without geometry is returned in stored axes.

    Raises:
        ValueError: `plane` is none of these.
    """
    if plane not in (*PLANES, "stored"):
        raise ValueError(f"plane: expected one of {', '.join(PLANES)} or stored, got {plane!r}")
    if plane == "stored" or volume.geometry is None:
        # a volume without geometry cannot be turned, so it is in stored axes already
        step = volume.layout.inverse()
    else:
        step = volume.geometry.layout_towards(PLANES[plane])
    spacing = volume.spacing_mm
    return replace(
        volume,
        array=step.apply(volume.array),
        geometry=None if volume.geometry is None else volume.geometry.seen_through(step, volume.shape),
        spacing_mm=None
        if spacing is None
        else (spacing[step.order[0]], spacing[step.order[1]], spacing[step.order[2]]),
        rgb=None if volume.rgb is None else step.apply(volume.rgb),
        layout=volume.layout.then(step),
    )


def from_display(array: Grid, view: Volume) -> Grid:
    """Bring a mask or a float map made on a view back to the file's own axes: the exact inverse of `to_display`.

    Args:
        array: (D, H, W) or (D, H, W, ...), aligned with `view.array`.
        view: What `to_display` returned (for a volume as read nothing changes).

    Returns:
        The same values in stored axes; a NumPy view.

    Raises:
        ValueError: The first three sizes differ from the view's.
    """
    if array.shape[:3] != view.shape:
        raise ValueError(f"array: expected (D, H, W) = {view.shape} as in the view, got {array.shape}")
    return view.layout.undo(array)
