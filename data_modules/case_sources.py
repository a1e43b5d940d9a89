"""Where labelled cases come from: volumes, HDF5 and NumPy files, pictures, and changes of their label ids.

Each source is a small frozen dataclass of paths and settings, see `data_modules.cases.CaseSource`.
"""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import numpy.typing as npt

from data_modules.case_sources_pictures import MaskFiles, PicturePair, PictureWithMasks
from data_modules.cases import CaseArrays
from data_modules.label_ids import to_label_ids
from data_modules.numpy_lock import HEADER_LOCK
from medzeroseg.imaging import InputError, Volume, read_volume, to_display

__all__ = [
    "ArrayFiles",
    "MaskFiles",
    "PicturePair",
    "PictureWithMasks",
    "View",
    "VolumePair",
    "VolumeWithMasks",
    "to_label_ids",
]

View = Literal["stored", "axial"]
"""How slices are laid out: as stored (slices, rows, columns: the reversed axes of a NIfTI file), or as radiologists
look at axial slices (front at the top, the patient's right on the left, from the feet)."""

# A label map written by another program repeats the image's affine up to rounding.
_MISPLACED_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class VolumePair:
    """A scan and its label map in files of their own: NIfTI, NRRD, MHA, or the folder of a DICOM series.

    Attributes:
        image: The scan.
        label: The label map, whole numbers 0..254; None without a reference.
        view: How its slices are laid out.
        volume_index: Which volume of a 4-D image file, from 0.
        ignore: The value in the label map that stands for "unknown", if one does.
    """

    image: Path
    label: Path | None = None
    view: View = "stored"
    volume_index: int | None = None
    ignore: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Image and label map; of a DICOM folder, its files."""
        return (*_files_of(self.image), *(() if self.label is None else _files_of(self.label)))

    @property
    def has_reference(self) -> bool:
        """Whether there is a label map."""
        return self.label is not None

    def read(self) -> CaseArrays:
        """Decode both.

        Raises:
            InputError: A file is missing or damaged, shapes or places differ, or the labels are no ids.
        """
        image = to_display(read_volume(self.image, volume_index=self.volume_index), self.view)
        mask = None
        if self.label is not None:
            label = to_display(read_volume(self.label), self.view)
            _require_same_place(self.image, image, self.label, label)
            mask = to_label_ids(label.array, self.label, self.ignore)
        return CaseArrays(image.array, mask, image.spacing_mm)


@dataclass(frozen=True, slots=True)
class VolumeWithMasks:
    """A scan with one binary volume for each label, as TotalSegmentator writes them.

    Attributes:
        image: The scan.
        masks: Files that are not 0 inside the structure; where they overlap, the later one counts.
        view: How its slices are laid out.
    """

    image: Path
    masks: MaskFiles
    view: View = "stored"

    @property
    def files(self) -> tuple[Path, ...]:
        """The scan and its masks."""
        return (*_files_of(self.image), *(path for path, _ in self.masks))

    @property
    def has_reference(self) -> bool:
        """Whether there is any mask."""
        return bool(self.masks)

    def read(self) -> CaseArrays:
        """Decode all.

        Raises:
            InputError: A file is missing or damaged, or shapes or places differ.
        """
        image = to_display(read_volume(self.image), self.view)
        mask = np.zeros(image.shape, np.uint8) if self.masks else None
        for path, label in self.masks:
            part = to_display(read_volume(path), self.view)
            _require_same_place(self.image, image, path, part)
            if mask is not None:
                mask[part.array != 0] = label
        return CaseArrays(image.array, mask, image.spacing_mm)


@dataclass(frozen=True, slots=True)
class ArrayFiles:
    """A volume in HDF5 (.h5) or NumPy archive (.npz) files, in the axis order of the file; its spacing is lost.

    Attributes:
        paths: One file (D, H, W), or the slices (H, W) of a volume in order.
        image_key: The image's name in the files.
        label_key: The label map's name; None without a reference.
    """

    paths: tuple[Path, ...]
    image_key: str = "image"
    label_key: str | None = "label"

    @property
    def files(self) -> tuple[Path, ...]:
        """The files."""
        return self.paths

    @property
    def has_reference(self) -> bool:
        """Whether a label map is looked for."""
        return self.label_key is not None

    def read(self) -> CaseArrays:
        """Decode and stack.

        Raises:
            InputError: A file is missing or damaged, lacks a key, or slices, image and label do not fit together.
        """
        keys = [self.image_key, *([] if self.label_key is None else [self.label_key])]
        stacks: dict[str, list[npt.NDArray[Any]]] = {key: [] for key in keys}
        for path in self.paths:
            arrays = _read_npz(path, keys) if path.suffix.lower() == ".npz" else _read_h5(path, keys)
            for key in keys:
                array = arrays[key]
                whole = array.ndim == 3 and len(self.paths) == 1
                if array.dtype.kind not in "biuf" or not (whole or array.ndim == 2) or 0 in array.shape:
                    expected = "a volume or a slice" if len(self.paths) == 1 else "one slice (H, W)"
                    raise InputError(f"{path}: '{key}' is {array.dtype} of shape {array.shape}, expected {expected}")
                if array.shape != arrays[self.image_key].shape:
                    shapes = f"{arrays[self.image_key].shape} and {array.shape}"
                    raise InputError(f"{path}: image and label differ in shape: {shapes}")
                if stacks[key] and array.shape != stacks[key][0].shape:
                    raise InputError(
                        f"{path}: '{key}' has shape {array.shape}, the first slice of the volume "
                        f"({self.paths[0].name}) {stacks[key][0].shape}"
                    )
                stacks[key].append(to_label_ids(array, path) if key == self.label_key else array)
        image, *mask = (stack[0] if stack[0].ndim == 3 else np.stack(stack) for stack in (stacks[key] for key in keys))
        return CaseArrays(image, mask[0] if mask else None, None)


def _files_of(path: Path) -> tuple[Path, ...]:
    return tuple(sorted(part for part in path.iterdir() if part.is_file())) if path.is_dir() else (path,)


def _require_same_place(image_path: Path, image: Volume, label_path: Path, label: Volume) -> None:
    if label.shape != image.shape:
        raise InputError(f"{label_path}: the label map has shape {label.shape}, its image {image_path} {image.shape}")
    if image.geometry is None or label.geometry is None:
        return
    # The corners are where a difference of the affines shows most.
    ends = np.array([[0, size - 1] for size in image.shape])
    corners = np.stack([*(axis.ravel() for axis in np.meshgrid(*ends, indexing="ij")), np.ones(8)])
    shift = (label.geometry.affine_ras_mm - image.geometry.affine_ras_mm) @ corners
    distance_mm = float(np.linalg.norm(shift[:3], axis=0).max())
    if distance_mm > _MISPLACED_SHARE * min(image.geometry.spacing_mm):
        raise InputError(
            f"{label_path}: the label map lies up to {distance_mm:.3g} mm beside its image {image_path} (the affines "
            "differ); resample it onto the image, or copy the image's affine where only the header is wrong"
        )


def _read_h5(path: Path, keys: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    try:
        with h5py.File(path, "r") as file:
            absent = [key for key in keys if not isinstance(file.get(key), h5py.Dataset)]
            if absent:
                raise InputError(f"{path}: no '{absent[0]}' in the file; it holds {', '.join(file) or 'nothing'}")
            return {key: np.asarray(file[key]) for key in keys}
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    # h5py raises RuntimeError and KeyError for damage inside the file.
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as HDF5 ({error}); fetch it again") from error


def _read_npz(path: Path, keys: Sequence[str]) -> dict[str, npt.NDArray[Any]]:
    try:
        with HEADER_LOCK, np.load(path, allow_pickle=False) as archive:
            absent = [key for key in keys if key not in archive.files]
            if absent:
                raise InputError(f"{path}: no '{absent[0]}' in the file; it holds {', '.join(archive.files)}")
            return {key: np.asarray(archive[key]) for key in keys}
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    # ValueError also stands for pickled objects; a plain .npy under this name has no `files`.
    except (OSError, EOFError, ValueError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as a NumPy archive ({error}); fetch it again") from error
