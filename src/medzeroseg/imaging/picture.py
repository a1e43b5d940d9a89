"""Reads PNG and JPEG files (and their like) as 8-bit RGB, whatever they hold; names what cannot be read."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from medzeroseg.imaging.errors import InputError

# Formats that run code or open other files (EPS, WMF) stay out.
PICTURE_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")
MAX_PIXELS = 89_478_485
"""Pillow's own warning limit: a quarter GiB as 24-bit RGB. Radiographs stay under 30 million pixels."""

# What Pillow raises for a damaged file depends on the format and on the place of the damage.
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)


def read_picture(path: Path | str, *, max_pixels: int = MAX_PIXELS, keep_grey: bool = False) -> Image.Image:
    """Read a picture file as an 8-bit RGB image.

    Grey, palette, 1-bit and CMYK pictures are converted (an Adobe CMYK JPEG stores its inks inverted: Pillow
    undoes that). 16-bit, 32-bit and floating-point grey is scaled from its own minimum and maximum to 0..255.
    Transparent pixels are laid over black, the background of a radiograph. An EXIF orientation is not
    applied: masks and boxes refer to the stored pixels.

    Args:
        path: The file.
        max_pixels: Larger pictures are refused before they are decoded (a small file can claim gigabytes).
        keep_grey: Leave 8-bit grey pictures as they are: a third of the bytes for whoever resizes them next.

    Returns:
        The picture, mode RGB (or L with `keep_grey`), fully decoded and detached from the file.

    Raises:
        InputError: The file is missing, not readable, empty, truncated, no picture, or over `max_pixels`.
    """
    with _open_decoded(Path(path), max_pixels) as picture:
        if keep_grey and picture.mode == "L" and "transparency" not in picture.info:
            return picture.copy()
        return _to_rgb(picture)


def open_grey(path: Path | str, *, max_pixels: int = MAX_PIXELS) -> Image.Image | None:
    """Read a picture whose pixels are intensities as they are: 1-bit and 8-bit grey as L, deeper grey as stored.

    Args:
        path: The file.
        max_pixels: As in `read_picture`.

    Returns:
        The picture in mode L, I;16, I or F; None for colour, palette and transparent pictures.

    Raises:
        InputError: As `read_picture`.
    """
    with _open_decoded(Path(path), max_pixels) as picture:
        if "transparency" in picture.info:
            return None
        if picture.mode in ("1", "L"):
            return picture.convert("L")
        return picture.copy() if _is_deep_grey(picture) else None


@contextmanager
def _open_decoded(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=PICTURE_FORMATS) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise InputError(_too_large(path, f"{width} x {height} pixels", max_pixels))
            picture.load()
            yield picture
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except PermissionError as error:
        raise InputError(f"{path}: the file may not be read (no permission)") from error
    except Image.DecompressionBombError as error:
        raise InputError(_too_large(path, "more pixels than Pillow opens", max_pixels)) from error
    except _DECODE_ERRORS as error:
        raise InputError(f"{path}: {_reason(path, error)}") from error


def _too_large(path: Path, size: str, max_pixels: int) -> str:
    return f"{path}: the picture has {size}, over the limit of {max_pixels:,} pixels; scale it down first"


def _reason(path: Path, error: Exception) -> str:
    if path.is_dir():
        return "this is a folder, not a picture"
    if path.stat().st_size == 0:
        return "the file is empty (0 bytes); fetch or export it again"
    if isinstance(error, UnidentifiedImageError):
        return f"this is no picture that can be read ({', '.join(PICTURE_FORMATS)})"
    return f"the picture is damaged or truncated ({error}); fetch or export it again"


def _is_deep_grey(picture: Image.Image) -> bool:
    return picture.mode in ("I", "F") or picture.mode.startswith("I;16")


def _to_rgb(picture: Image.Image) -> Image.Image:
    if _is_deep_grey(picture):
        return _scale_to_8_bit(picture).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        black = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, coloured).convert("RGB")
    # `convert` returns a copy, also for RGB, so nothing refers to the closed file.
    return picture.convert("RGB")


def _scale_to_8_bit(picture: Image.Image) -> Image.Image:
    values = np.asarray(picture).astype(np.float64)
    finite = np.isfinite(values)
    low, high = (values[finite].min(), values[finite].max()) if finite.any() else (0.0, 0.0)
    scaled = np.where(finite, (values - low) / max(high - low, 1e-12), 0.0)
    return Image.fromarray(np.rint(scaled * 255).astype(np.uint8))
