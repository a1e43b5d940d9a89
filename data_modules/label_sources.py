"""Pictures and label maps inside HDF5 and NIfTI volumes and beside PNG files, decoded once a worker."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import h5py
import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from PIL import Image

from data_modules.label_measures import Mask
from medzeroseg.imaging import InputError, array_to_picture, read_picture

# Each worker process keeps its own few volumes: slices of one volume are often asked for in a row.
_VOLUMES_KEPT = 8

_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class H5Slice:
    """One slice of an HDF5 file with the keys `image` and `label`, each (H, W) or (slices, H, W).

    Attributes:
        path: The file.
        index: The slice of a volume; None when the file holds one slice.
    """

    path: Path
    index: int | None = None

    def read(self) -> Image.Image:
        """Show the slice between its own 0.5 and 99.5 percentiles: a single-slice file has no volume's."""
        return array_to_picture(self._slice("image"))

    def read_label(self) -> npt.NDArray[np.integer]:
        """Read the slice's label map, shape (H, W)."""
        return self._slice("label")

    def _slice(self, key: str) -> npt.NDArray[np.integer]:
        array = read_h5(self.path)[key]
        if self.index is not None and array.ndim == 3:
            array = array[self.index]
        if array.ndim == 2:
            return array
        raise InputError(f"{self.path}: '{key}' has shape {array.shape}, expected one slice (H, W)")


def read_h5(path: Path) -> dict[str, npt.NDArray[np.integer]]:
    """Read `image` and `label` of an SSL4MIS file.

    Raises:
        InputError: The file is missing or damaged, lacks a key, or image and label differ in shape.
    """
    return _read_h5(path, _stamp(path))


@lru_cache(maxsize=_VOLUMES_KEPT)
def _read_h5(path: Path, stamp: tuple[int, int]) -> dict[str, npt.NDArray[np.integer]]:
    try:
        with h5py.File(path, "r") as file:
            absent = [key for key in ("image", "label") if key not in file]
            if absent:
                raise InputError(f"{path}: no '{absent[0]}' in the file; it holds {', '.join(file) or 'nothing'}")
            arrays = {key: np.asarray(file[key]) for key in ("image", "label")}
    except OSError as error:
        raise InputError(f"{path}: cannot be read as HDF5 ({error}); fetch it again") from error
    if arrays["image"].shape != arrays["label"].shape:
        shapes = f"{arrays['image'].shape} and {arrays['label'].shape}"
        raise InputError(f"{path}: image and label differ in shape: {shapes}")
    return arrays


@dataclass(frozen=True, slots=True)
class StretchedPicture:
    """A grey picture file shown between its 0.5 and 99.5 percentiles, for scans stored too dark to see."""

    path: Path

    def read(self) -> Image.Image:
        """Decode and stretch, mode RGB."""
        return array_to_picture(np.asarray(read_picture(self.path).convert("L")))


def read_mask(path: Path) -> Mask:
    """Read a mask picture, shape (H, W): True where it is brighter than 127.

    Raises:
        InputError: The file is missing or damaged.
    """
    return np.asarray(read_picture(path).convert("L")) > 127


@dataclass(frozen=True, slots=True)
class NiftiSlice:
    """One axial slice of a NIfTI volume, shown as radiologists do.

    Attributes:
        path: The file.
        index: Slice from the feet (0) to the head.
        window: Intensities shown as black and white.
    """

    path: Path
    index: int
    window: tuple[float, float]

    def read(self) -> Image.Image:
        """Show the slice, mode RGB: front of the body at the top, the patient's right on the left."""
        return array_to_picture(axial_slice(read_nifti(self.path)[0], self.index), self.window)


def axial_slice(volume: npt.NDArray[_Value], index: int) -> npt.NDArray[_Value]:
    """Take a slice of a RAS volume (X, Y, Z) for display.

    Returns:
        Shape (Y, X): row 0 is the front of the body, column 0 the patient's right.
    """
    return volume[::-1, ::-1, index].T


def read_nifti(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Read a 3-D NIfTI file, turned to the nearest RAS orientation.

    Returns:
        Values (X, Y, Z) rising to the patient's right, front and head; the affine (4, 4) to mm.

    Raises:
        InputError: The file is missing or damaged, or is not 3-D.
    """
    return _read_nifti(path, _stamp(path))


@lru_cache(maxsize=_VOLUMES_KEPT)
def _read_nifti(path: Path, stamp: tuple[int, int]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    try:
        image = nib.as_closest_canonical(nib.load(path))
        volume = np.asarray(image.dataobj, dtype=np.float32)
    # nibabel lets gzip's and its own errors through, depending on where the damage is.
    except (OSError, EOFError, ValueError, ImageFileError) as error:
        raise InputError(f"{path}: cannot be read as NIfTI ({error}); fetch it again") from error
    if volume.ndim != 3:
        raise InputError(f"{path}: expected a 3-D volume, got shape {volume.shape}")
    return volume, np.asarray(image.affine, dtype=np.float64)


def _stamp(path: Path) -> tuple[int, int]:
    """Tell a file from a later version of it, so that a changed file is read again."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return status.st_mtime_ns, status.st_size
