"""Writes a label map so that it lies exactly on the image it was made from."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from medzeroseg.errors import OutputError
from medzeroseg.files import write_atomically
from medzeroseg.imaging.nifti import compress, nifti_bytes
from medzeroseg.imaging.volume import Volume, from_display

_FORMATS = ".nii.gz, .nii, .nrrd, .mha, .dcm (DICOM segmentation) or .png (single slices)"


def write_mask(
    path: Path | str,
    mask: npt.NDArray[Any],
    like: Volume,
    *,
    label_names: Mapping[int, str] | None = None,
    identity: str = "remove",
) -> None:
    """Write a label map on the grid of its image, in the format that the file name asks for.

    A NIfTI mask of a NIfTI image has the image's shape, axis order, qform, sform, their codes and its units; NRRD and
    MHA masks likewise. A DICOM image gets a DICOM segmentation, or a NIfTI, NRRD or MHA file placed by its affine.
    A PNG is an 8-bit grey label map, as stored. Labels are never resampled.

    No text of the source's header is written: not NIfTI's `descrip`, `db_name`, `aux_file`, `intent_name` and
    extensions, not NRRD's and MHA's fields. For what a DICOM segmentation must refer to, see
    `medzeroseg.imaging.dicom_seg.dicom_seg_bytes`.

    Args:
        path: The file; missing folders are made. It appears whole or not at all.
        mask: (D, H, W) label ids 0..255, integer or bool, aligned with `like.array`.
        like: The volume as read, or the view of it on which the mask was made: the axes are turned back.
        label_names: Label id to name, for DICOM segments.
        identity: "remove", or "keep" to file a DICOM segmentation under the patient and the study of its source.

    Raises:
        OutputError: The format does not exist or cannot hold this mask; the folder cannot be written to.
        ValueError: `mask` has another shape or type, or labels beyond 0..255; `identity` or `label_names` is unknown.
    """
    path = Path(path)
    if identity not in ("remove", "keep"):
        raise ValueError(f"identity: expected remove or keep, got {identity!r}")
    names = dict(label_names or {})
    if any(not 0 < label < 256 for label in names):
        raise ValueError(f"label_names: label ids must be 1..255, got {sorted(names)}")
    stored = from_display(_as_labels(mask), like)
    geometry = like.geometry and like.geometry.seen_through(like.layout.inverse(), like.shape)
    name = path.name.lower()
    if name.endswith(".nii.gz"):
        write_atomically(path, compress(nifti_bytes(stored, like.source, geometry)))
    elif name.endswith(".nii"):
        write_atomically(path, nifti_bytes(stored, like.source, geometry))
    elif name.endswith((".nrrd", ".mha")):
        from medzeroseg.imaging.itk import write_itk_mask

        write_itk_mask(path, stored, like.source, geometry)
    elif name.endswith(".dcm"):
        write_atomically(path, _dicom_seg(path, stored, like, names, identity))
    elif name.endswith(".png"):
        write_atomically(path, _png(path, stored))
    else:
        raise OutputError(f"{path}: masks are written as {_FORMATS}; choose one of these endings")


def write_map(path: Path | str, values: npt.NDArray[np.float32], like: Volume) -> None:
    """Write a map of numbers in [0, 1], such as a saliency map, on the grid of its image.

    A NIfTI file holds them as float32, placed as `write_mask` places a mask; a PNG as grey levels 0..255.

    Args:
        path: The file, ending in .nii.gz, .nii, or .png for a single slice. It appears whole or not at all.
        values: (D, H, W) float, aligned with `like.array`.
        like: The volume as read, or the view of it on which the map was made.

    Raises:
        OutputError: The format does not exist or cannot hold this map; the folder cannot be written to.
        ValueError: `values` has another shape.
    """
    path = Path(path)
    stored = from_display(np.asarray(values, np.float32), like)
    geometry = like.geometry and like.geometry.seen_through(like.layout.inverse(), like.shape)
    name = path.name.lower()
    if name.endswith(".nii.gz"):
        # a smooth map hardly shrinks further at higher levels, which take many times as long
        write_atomically(path, compress(nifti_bytes(stored, like.source, geometry), level=1))
    elif name.endswith(".nii"):
        write_atomically(path, nifti_bytes(stored, like.source, geometry))
    elif name.endswith(".png"):
        write_atomically(path, _png(path, np.rint(stored.clip(0, 1) * 255).astype(np.uint8)))
    else:
        raise OutputError(f"{path}: maps are written as .nii.gz, .nii or .png (single slices)")


def _as_labels(mask: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if mask.dtype.kind not in "iub":
        raise ValueError(f"mask: expected integer label ids, got {mask.dtype}")
    if mask.size and (mask.min() < 0 or mask.max() > 255):
        raise ValueError(f"mask: label ids must lie in 0..255, got {mask.min()}..{mask.max()}")
    return mask.astype(np.uint8, copy=False)


def _dicom_seg(path: Path, stored: npt.NDArray[np.uint8], like: Volume, names: dict[int, str], identity: str) -> bytes:
    from medzeroseg.imaging.dicom_seg import dicom_seg_bytes
    from medzeroseg.imaging.dicom_series import DicomSource

    if not isinstance(like.source, DicomSource):
        raise OutputError(f"{path}: only a DICOM image can carry a DICOM segmentation; write .nii.gz or .png instead")
    return dicom_seg_bytes(path, stored, like.source, names, identity)


def _png(path: Path, stored: npt.NDArray[np.uint8]) -> bytes:
    if len(stored) != 1:
        raise OutputError(f"{path}: a PNG holds one slice, the mask has {len(stored)}; write .nii.gz instead")
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored[0])).save(buffer, "PNG")
    return buffer.getvalue()
