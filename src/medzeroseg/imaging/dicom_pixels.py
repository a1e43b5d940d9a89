"""Decodes the pixels of DICOM files to intensities."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from medzeroseg.imaging.dicom_headers import PARSE_ERRORS, Frame, quiet_pydicom, read_dataset
from medzeroseg.imaging.errors import InputError
from medzeroseg.imaging.scaling import scaled

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_PACKAGES = (
    # the first word of the transfer syntax's family, as pydicom names it, and what decodes it
    ("JPEG-LS", "pyjpegls"),
    ("JPEG 2000", "pylibjpeg and pylibjpeg-openjpeg"),
    ("High-Throughput JPEG 2000", "pylibjpeg and pylibjpeg-openjpeg"),
    ("JPEG", "python-gdcm"),
    ("RLE", "pylibjpeg and pylibjpeg-rle"),
)


def decode_frames(path: Path, frames: Sequence[Frame]) -> npt.NDArray[Any]:
    """Decode some frames of one file.

    MONOCHROME1 (high values are dark) is inverted within the range of its stored bits, so that high is bright.
    Bits beyond the stored ones are dropped and the sign is extended. Padding pixels, which lie outside the
    reconstruction, get the lowest other value of the file. Rescale slope and intercept (or the modality table) are
    applied: CT is in Hounsfield units.

    Args:
        path: The file.
        frames: Which frames, in the order wanted.

    Returns:
        (F, rows, columns) for grey, (F, rows, columns, 3) uint8 for colour.

    Raises:
        InputError: The pixels are damaged, or compressed in a way for which no codec is installed; the package to
            install is named.
    """
    with quiet_pydicom():
        dataset = read_dataset(path, pixels=True)
        try:
            _require_codec(path, dataset)
            stored = _stored_pixels(dataset)
            stored = stored[[frame.number for frame in frames]]
            if stored.ndim == 4:
                return _to_8_bit(stored, dataset)
            values = _intensities(stored, dataset)
            if dataset.get("ModalityLUTSequence"):
                from pydicom.pixels.processing import apply_modality_lut

                table: npt.NDArray[Any] = apply_modality_lut(values, dataset)
                return table
        except PARSE_ERRORS:
            raise InputError(f"{path}: the pixels are damaged or truncated; fetch or export the file again") from None
    pieces = [scaled(piece, frame.slope, frame.intercept) for piece, frame in zip(values, frames, strict=True)]
    return np.stack(pieces)


def inverted(path: Path) -> tuple[bool, float]:
    """Whether a file is MONOCHROME1, and the sum of the lowest and the highest stored number."""
    with quiet_pydicom():
        dataset = read_dataset(path, pixels=False)
        if dataset.get("PhotometricInterpretation") != "MONOCHROME1":
            return False, 0.0
        signed = bool(dataset.get("PixelRepresentation", 0))
        return True, -1.0 if signed else float(2 ** int(dataset.BitsStored) - 1)


def _require_codec(path: Path, dataset: "Dataset") -> None:
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax.is_deflated:
        return
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise InputError(f"{path}: its compression ({syntax.name}) cannot be read; export it uncompressed") from None
    if not decoder.is_available:
        package = next((package for word, package in _PACKAGES if syntax.name.startswith(word)), None)
        advice = f"install {package}" if package else "export it uncompressed"
        raise InputError(f"{path}: the pixels are compressed ({syntax.name}) and no codec is installed; {advice}")


def _stored_pixels(dataset: "Dataset") -> npt.NDArray[Any]:
    """(F, rows, columns) or (F, rows, columns, 3), as RGB where the file says YBR or holds a palette."""
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    stored = pixel_array(dataset, decoding_plugin=_plugin(dataset))
    if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
        stored = apply_color_lut(stored, dataset)
    colour = stored.shape[-1] == 3 and stored.ndim > 2 and stored.shape[-2] == dataset.Columns
    return stored.reshape(-1, dataset.Rows, dataset.Columns, *((3,) if colour else ()))


def _plugin(dataset: "Dataset") -> str:
    """The codec to use: GDCM only where there is no other, since damaged data can make it end the process."""
    from pydicom.pixels.decoders.base import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or syntax.is_deflated:
        return ""
    available = get_decoder(syntax).available_plugins
    return next((name for name in available if name != "gdcm"), "gdcm")


def _to_8_bit(stored: npt.NDArray[Any], dataset: "Dataset") -> npt.NDArray[np.uint8]:
    if stored.dtype.itemsize == 1:
        return stored.astype(np.uint8)
    palette = dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
    bits = 16 if palette else int(dataset.BitsStored)
    return (stored >> max(bits - 8, 0)).astype(np.uint8)


def _intensities(stored: npt.NDArray[Any], dataset: "Dataset") -> npt.NDArray[Any]:
    if stored.dtype.kind == "f":
        return stored
    spare = stored.dtype.itemsize * 8 - int(dataset.BitsStored)
    if spare > 0:  # overlays of old scanners lie in the bits above; the shift back extends the sign
        stored = (stored << spare) >> spare
    outside = _padding(stored, dataset)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        stored = ~stored
        if spare > 0 and stored.dtype.kind == "u":
            stored = stored & (np.iinfo(stored.dtype).max >> spare)
    if outside is not None and outside.any() and not outside.all():
        stored = np.where(outside, stored[~outside].min(), stored)
    return stored


def _padding(stored: npt.NDArray[Any], dataset: "Dataset") -> npt.NDArray[np.bool_] | None:
    first = dataset.get("PixelPaddingValue")
    if first is None:
        return None
    # the value may be written as unsigned for signed pixels; the same bits are meant
    ends = [
        np.array(int(value)).astype(stored.dtype) for value in (first, dataset.get("PixelPaddingRangeLimit", first))
    ]
    padding: npt.NDArray[np.bool_] = (stored >= min(ends)) & (stored <= max(ends))
    return padding
