"""Reads whatever image it is given: the one entry for the command line and the data modules."""

from pathlib import Path

import numpy as np
from PIL import Image

from medzeroseg.imaging.errors import InputError
from medzeroseg.imaging.files import GZIP_MAGIC, read_bytes
from medzeroseg.imaging.nifti import luma, nifti_magic, read_nifti
from medzeroseg.imaging.picture import open_grey, read_picture
from medzeroseg.imaging.scaling import finite_float32
from medzeroseg.imaging.sniffing import looks_like_dicom, looks_like_itk
from medzeroseg.imaging.volume import Source, Volume

_HEAD_BYTES = 1024


class PictureSource(Source):
    """A PNG, JPEG or other picture: a mask is laid on it pixel by pixel."""


def read_volume(
    path: Path | str,
    *,
    volume_index: int | None = None,
    series: int | None = None,
    uneven_steps: str = "error",
    duplicate_positions: str = "error",
) -> Volume:
    """Read a scan: NIfTI, NRRD, MHA, MHD, a DICOM file, or the folder of a DICOM series.

    The format is told by the content, not by the extension. No header value that could identify a patient is kept,
    or named in an error.

    Args:
        path: The file or folder.
        volume_index: Which volume of a 4-D NIfTI, NRRD or MHA file, from 0.
        series: Which series of a DICOM folder that holds several, from 1, as numbered in the error that asks for it.
        uneven_steps: "error" for a DICOM series with a missing slice, or "accept": stacked with its usual step.
        duplicate_positions: "error" for a DICOM series with several slices at a place, or "first".

    Returns:
        The volume in the file's own axes; `to_display` turns it as radiologists look.

    Raises:
        InputError: It is missing, damaged, of another format, or ambiguous; the message says what to do.
        ValueError: An option has none of the values above.
    """
    path = Path(path)
    for name, value, allowed in (
        ("uneven_steps", uneven_steps, ("error", "accept")),
        ("duplicate_positions", duplicate_positions, ("error", "first")),
    ):
        if value not in allowed:
            raise ValueError(f"{name}: expected {' or '.join(allowed)}, got {value!r}")
    if path.is_dir():
        from medzeroseg.imaging.dicom_series import read_dicom_series

        return read_dicom_series(
            path, series=series, uneven_steps=uneven_steps, duplicate_positions=duplicate_positions
        )
    head = read_bytes(path, _HEAD_BYTES)
    if head.startswith(GZIP_MAGIC) or nifti_magic(head):
        return read_nifti(path, volume_index=volume_index)
    if looks_like_dicom(head):
        from medzeroseg.imaging.dicom_series import read_dicom_file

        return read_dicom_file(path, series=series, uneven_steps=uneven_steps, duplicate_positions=duplicate_positions)
    if looks_like_itk(head):
        from medzeroseg.imaging.itk import read_itk

        return read_itk(path, volume_index=volume_index)
    raise InputError(f"{path}: this is no scan that can be read (NIfTI, NRRD, MHA, MHD, DICOM)")


def read_image(
    path: Path | str,
    *,
    volume_index: int | None = None,
    series: int | None = None,
    uneven_steps: str = "error",
    duplicate_positions: str = "error",
) -> Volume:
    """Read a scan or a picture: what `read_volume` reads, and PNG, JPEG, TIFF, BMP, GIF, WebP.

    A picture becomes a volume of one slice without geometry. Grey of 8 and 16 bits keeps its own intensities (unlike
    `read_picture`, which scales to 8 bits); colour is kept in `rgb` beside its luma.

    Args:
        path: The file, or the folder of a DICOM series.
        volume_index: As in `read_volume`.
        series: As in `read_volume`.
        uneven_steps: As in `read_volume`.
        duplicate_positions: As in `read_volume`.

    Raises:
        InputError: As `read_volume` and `read_picture`.
        ValueError: As `read_volume`.
    """
    path = Path(path)
    if not path.is_dir():
        head = read_bytes(path, _HEAD_BYTES)
        known = (head.startswith(GZIP_MAGIC), nifti_magic(head), looks_like_dicom(head), looks_like_itk(head))
        if not any(known):
            return _picture_volume(path)
    return read_volume(
        path,
        volume_index=volume_index,
        series=series,
        uneven_steps=uneven_steps,
        duplicate_positions=duplicate_positions,
    )


def _picture_volume(path: Path) -> Volume:
    grey = open_grey(path)
    if grey is not None:
        try:
            values, replaced = finite_float32(np.asarray(grey)[None])
        except ValueError:
            raise InputError(f"{path}: no pixel holds a finite number; export it again") from None
        note = f"{replaced:,} pixels that were not finite hold the lowest finite value instead"
        window = (0.0, 255.0) if values.dtype == np.uint8 else None
        return Volume(values, window=window, notes=(note,) if replaced else (), source=PictureSource())
    return volume_of_picture(read_picture(path))


def volume_of_picture(picture: Image.Image) -> Volume:
    """One slice from an RGB picture; equal channels are grey."""
    rgb = np.asarray(picture.convert("RGB"))[None]
    if (rgb == rgb[..., :1]).all():
        return Volume(rgb[..., 0].copy(), window=(0.0, 255.0), source=PictureSource())
    return Volume(luma(rgb), rgb=rgb, window=(0.0, 255.0), source=PictureSource())
