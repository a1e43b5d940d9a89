"""Reads every case once, in parallel, and keeps only facts about it: shapes, labels, a hash of the pixels."""

import hashlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_modules.cases import BACKGROUND, CaseArrays, SegmentationCase
from data_modules.pairs import ImageTextRecord
from data_modules.splits import Split
from medzeroseg.imaging import InputError

Case = ImageTextRecord | SegmentationCase
Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class CaseFacts:
    """What one case is like.

    Attributes:
        split: Its split.
        case: The case itself.
        refused: Why it cannot be read; the other fields are then as if there were nothing.
        shape: (slices, height, width); a picture has one slice.
        spacing_mm: (between slices, rows, columns); None where the format lost it.
        voxels_of_label: Label id to the number of voxels, background too; None without a mask.
        constant: Whether all pixels have one value.
        pixels: Hash of shape and decoded values; equal for copies in other files, types and lossless formats.
        file_bytes: Size of its files.
    """

    split: Split
    case: Case
    refused: str | None = None
    shape: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    voxels_of_label: dict[int, int] | None = None
    constant: bool = False
    pixels: bytes = b""
    file_bytes: int = 0

    @property
    def case_id(self) -> str:
        """The case's name."""
        return self.case.case_id


def read_all(cases: Sequence[tuple[Split, Case]], workers: int, on_case: Callable[[], None]) -> list[CaseFacts]:
    """Read cases in parallel; one that fails does not stop the others.

    Threads, not processes: inflating, hashing, counting and Pillow's decoding let go of the interpreter lock, and
    starting processes would cost seconds of imports each.

    Args:
        cases: The cases with their splits.
        workers: Threads.
        on_case: Called when a case is done.

    Returns:
        The facts, in the order of `cases`.
    """

    def read(item: tuple[Split, Case]) -> CaseFacts:
        facts = read_facts(*item)
        on_case()
        return facts

    pool = ThreadPoolExecutor(workers)
    try:
        return list(pool.map(read, cases))
    finally:
        # After Ctrl-C the cases that wait are not begun.
        pool.shutdown(cancel_futures=True)


@contextmanager
def quiet_readers() -> Iterator[None]:
    """Keep what the file libraries say to themselves: it may quote header fields, which can name the patient."""
    names = ("pydicom", "nibabel", "nibabel.global", "PIL", "highdicom")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for name in names:
                logging.getLogger(name).setLevel(logging.CRITICAL + 1)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def read_facts(split: Split, case: Case) -> CaseFacts:
    """Read one case.

    A reader that fails in a way it should not is reported like a file that cannot be read, without the text of the
    error: it may quote the file.
    """
    try:
        decoded = case.source.read()
    except InputError as error:
        return CaseFacts(split, case, refused=str(error))
    except Exception as error:
        where = ", ".join(map(str, _files(case))) or case.case_id
        return CaseFacts(split, case, refused=f"{where}: the reader failed unexpectedly ({type(error).__name__})")
    size = sum(path.stat().st_size for path in _files(case) if path.exists())
    if isinstance(decoded, Image.Image):
        image = _grey_where_grey(np.asarray(decoded.convert("RGB")))
        low, high = _range(image)
        return CaseFacts(
            split,
            case,
            shape=(1, decoded.height, decoded.width),
            constant=low == high,
            pixels=hash_of_pixels(image, low, high),
            file_bytes=size,
        )
    return _volume_facts(split, case, decoded, size)


def _volume_facts(split: Split, case: Case, arrays: CaseArrays, size: int) -> CaseFacts:
    depth, height, width = arrays.image.shape
    if arrays.mask is not None and arrays.mask.shape != arrays.image.shape:
        shapes = f"{arrays.image.shape} and {arrays.mask.shape}"
        return CaseFacts(split, case, refused=f"{_files(case)[-1]}: image and mask differ in shape: {shapes}")
    low, high = _range(arrays.image)
    return CaseFacts(
        split,
        case,
        shape=(depth, height, width),
        spacing_mm=arrays.spacing_mm,
        voxels_of_label=None if arrays.mask is None else count_labels(arrays.mask),
        constant=low == high,
        pixels=hash_of_pixels(arrays.image, low, high),
        file_bytes=size,
    )


def hash_of_pixels(image: Array, low: float, high: float) -> bytes:
    """Hash shape and values, whatever type holds them.

    Whole numbers are hashed as uint8 or int16 where they fit, everything else as float32: a copy of a volume in
    another compression, another integer type or as floating point has the same hash. A lossy copy (JPEG) has not.

    Args:
        image: (D, H, W), or (H, W, 3) for colour.
        low: Its lowest value.
        high: Its highest value.
    """
    kind = _smallest_type(image, low, high)
    digest = hashlib.sha256(f"{image.shape}".encode())
    for part in image:
        digest.update(np.ascontiguousarray(part, dtype=kind).data)
    return digest.digest()


def count_labels(mask: npt.NDArray[np.uint8]) -> dict[int, int]:
    """Count the voxels of each label that occurs.

    Most of a mask is background: eight voxels at a time are compared with it, and only the rest is counted one by
    one. Counting every voxel would take a third of the time of inflating the volume.
    """
    flat = np.ascontiguousarray(mask).reshape(-1)
    end = flat.size // 8 * 8
    words = flat[:end].view(np.uint64)
    rest = words[words != 0].view(np.uint8)
    counts = np.bincount(rest, minlength=256) + np.bincount(flat[end:], minlength=256)
    counts[BACKGROUND] += end - rest.size
    return {int(label): int(counts[label]) for label in np.flatnonzero(counts)}


def _range(image: Array) -> tuple[float, float]:
    return float(image.min()), float(image.max())


def _smallest_type(image: Array, low: float, high: float) -> type[np.generic]:
    if not (image.dtype.kind in "iub" or all(bool((part == np.rint(part)).all()) for part in image)):
        return np.float32
    if low >= 0 and high <= 255:
        return np.uint8
    return np.int16 if low >= -(1 << 15) and high < 1 << 15 else np.float32


def _grey_where_grey(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    grey = rgb[..., 0]
    if np.array_equal(grey, rgb[..., 1]) and np.array_equal(grey, rgb[..., 2]):
        return grey[None]
    return rgb


def _files(case: Case) -> tuple[Path, ...]:
    if isinstance(case, SegmentationCase):
        return case.source.files
    path = getattr(case.source, "path", None)
    return (path,) if isinstance(path, Path) else ()
