"""One decoded case on disk: written whole, checked when opened, read slice by slice."""

import json
import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_modules.cases import BACKGROUND, IGNORE, CaseArrays
from data_modules.numpy_lock import HEADER_LOCK
from data_modules.slice_cache_key import digest_of_file
from medzeroseg.imaging import InputError, PercentileWindow, Window

Array = npt.NDArray[np.generic]
IMAGE, MASK, META = "image.npy", "mask.npy", "meta.json"

PERCENTILES = (0.0, 0.5, 1.0, 2.0, 5.0, 95.0, 98.0, 99.0, 99.5, 100.0)
"""The percentiles of a volume that are kept with it."""

# Each process keeps so many cases mapped; a mapping holds a file descriptor, of which a process has about 1,000.
_CASES_MAPPED = 128
_TRIES = 4


@dataclass(frozen=True, slots=True)
class CachedCase:
    """A decoded case; holds no pixels, so that it is light to copy to worker processes.

    Attributes:
        folder: Its entry in the cache.
        shape: (D, H, W).
        spacing_mm: As in `CaseArrays`.
        percentiles: The volume's intensity at each of `PERCENTILES`, so that windows need no pass over the volume.
        voxels_of_label: Label id to its number of voxels, the background left out; empty without a reference.
        labelled_slices: For each slice whether it shows any structure; all False without a reference.
        has_mask: Whether there is a reference.
    """

    folder: Path
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] | None
    percentiles: dict[float, float]
    voxels_of_label: dict[int, int]
    labelled_slices: tuple[bool, ...]
    has_mask: bool

    @property
    def slice_count(self) -> int:
        """The number of slices, D."""
        return self.shape[0]

    def arrays(self) -> tuple[Array, npt.NDArray[np.uint8] | None]:
        """Map image and mask (D, H, W) into this process, read-only.

        Raises:
            InputError: The entry is gone.
        """
        try:
            return _mapped(self.folder, self.has_mask)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{self.folder}: the slice cache was changed while it was in use ({error}); run again to rebuild it"
            ) from error

    def fixed(self, window: Window) -> "FixedBounds":
        """Settle a window for this volume."""
        if isinstance(window, PercentileWindow) and {window.lower, window.upper} <= self.percentiles.keys():
            return FixedBounds(self.percentiles[window.lower], self.percentiles[window.upper])
        return FixedBounds(*window.bounds(self.arrays()[0]))


@dataclass(frozen=True)
class FixedBounds(Window):
    """A window settled for one volume; `low` equals `high` where the volume has no contrast."""

    low: float
    high: float

    def bounds(self, values: npt.ArrayLike) -> tuple[float, float]:
        """`(low, high)`."""
        return self.low, self.high


@lru_cache(maxsize=_CASES_MAPPED)
def _mapped(folder: Path, has_mask: bool) -> tuple[Array, npt.NDArray[np.uint8] | None]:
    with HEADER_LOCK:
        image = np.load(folder / IMAGE, mmap_mode="r", allow_pickle=False)
        return image, np.load(folder / MASK, mmap_mode="r", allow_pickle=False) if has_mask else None


def compact(image: Array) -> Array:
    """Store an image in the smallest of int16, uint16, uint8 and float32 that loses nothing (float32 at most)."""
    if image.dtype in (np.uint8, np.int16, np.uint16):
        return image
    if image.dtype.kind == "b":
        return image.astype(np.uint8)
    if image.dtype.kind == "f" and not (np.isfinite(image).all() and np.array_equal(image, np.rint(image))):
        return image.astype(np.float32)
    for kind in (np.int16, np.uint16):
        bounds = np.iinfo(kind)
        if image.size == 0 or (bounds.min <= image.min() and image.max() <= bounds.max):
            return image.astype(kind)
    return image.astype(np.float32)


def write_entry(folder: Path, arrays: CaseArrays) -> None:
    """Write a decoded case into an empty folder; raises `OSError` when that fails."""
    image, mask = np.ascontiguousarray(compact(arrays.image)), arrays.mask
    _save(folder / IMAGE, image)
    files = [IMAGE]
    labels: dict[str, int] = {}
    labelled = [False] * len(image)
    if mask is not None:
        _save(folder / MASK, mask)
        files.append(MASK)
        counts = _counts(mask, 0, IGNORE + 1)
        labels = {str(label): int(counts[label]) for label in np.flatnonzero(counts) if label != BACKGROUND}
        labelled = ((mask != BACKGROUND) & (mask != IGNORE)).any(axis=(1, 2)).tolist()
    meta = {
        "shape": image.shape,
        "spacing_mm": arrays.spacing_mm,
        "percentiles": _percentiles(image),
        "voxels_of_label": labels,
        "labelled_slices": labelled,
        "files": {name: [*_size_and_time(folder / name), digest_of_file(folder / name)] for name in files},
    }
    (folder / META).write_text(json.dumps(meta), encoding="utf-8")


def load_entry(folder: Path) -> CachedCase | None:
    """Open an entry; None when it is missing, truncated or damaged.

    An array whose size and time of writing are as they were is trusted; another is hashed first.
    """
    try:
        meta: dict[str, Any] = json.loads((folder / META).read_text(encoding="utf-8"))
        for name, (size, time_ns, digest) in meta["files"].items():
            found = _size_and_time(folder / name)
            if found[0] != size or (found[1] != time_ns and digest_of_file(folder / name) != digest):
                return None
        percentiles = {float(key): float(value) for key, value in meta["percentiles"]}
        depth, height, width = meta["shape"]
        case = CachedCase(
            folder=folder,
            shape=(depth, height, width),
            spacing_mm=None if meta["spacing_mm"] is None else tuple(meta["spacing_mm"]),
            percentiles=percentiles,
            voxels_of_label={int(label): count for label, count in meta["voxels_of_label"].items()},
            labelled_slices=tuple(meta["labelled_slices"]),
            has_mask=MASK in meta["files"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError):
        return None
    whole = set(PERCENTILES) <= percentiles.keys() and len(case.labelled_slices) == depth
    return case if whole and IMAGE in meta["files"] else None


def put_entry(temporary: Path, final: Path) -> None:
    """Rename a written folder into place; where another process was first, keep its entry.

    Raises:
        OSError: The file system refuses.
    """
    for _ in range(_TRIES):
        try:
            temporary.rename(final)
        except OSError as error:
            refusal = error
        else:
            _mapped.cache_clear()  # an entry that was damaged may still be mapped
            return
        if not temporary.is_dir():
            raise refusal
        if load_entry(final) is not None:
            return  # another process made the same entry meanwhile
        # Damaged: out of the way, under a name that nobody else chooses; another process may do so at this moment.
        damaged = final.with_name(f".{uuid.uuid4().hex}.damaged")
        with suppress(FileNotFoundError):
            final.rename(damaged)
            shutil.rmtree(damaged, ignore_errors=True)
    raise refusal


def _percentiles(image: npt.NDArray[Any]) -> list[tuple[float, float]]:
    """Measure a volume's `PERCENTILES`, as np.percentile does; 16-bit volumes by their histogram, 5 times faster."""
    if image.dtype.kind == "f":
        values: npt.NDArray[Any] = image[np.isfinite(image)]
        found = np.percentile(values, PERCENTILES).tolist() if values.size else [0.0] * len(PERCENTILES)
        return list(zip(PERCENTILES, found, strict=True))
    lowest = int(np.iinfo(image.dtype).min)
    below = np.cumsum(_counts(image, lowest, 1 << 8 * image.dtype.itemsize))
    ranks = np.array(PERCENTILES) / 100 * (image.size - 1)
    # The values at the whole ranks around each one, and the point between them.
    left, right = (np.searchsorted(below, rank(ranks), side="right") + lowest for rank in (np.floor, np.ceil))
    return list(zip(PERCENTILES, (left + (right - left) * (ranks % 1)).tolist(), strict=True))


def _counts(array: Array, lowest: int, length: int) -> npt.NDArray[np.int64]:
    """Count each value of an integer volume; slice by slice, because np.bincount copies what it counts to int64."""
    counts = np.zeros(length, np.int64)
    for part in array:
        counts += np.bincount(part.ravel().astype(np.int64) - lowest, minlength=length)
    return counts


def _save(path: Path, array: Array) -> None:
    np.save(path, np.ascontiguousarray(array), allow_pickle=False)


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
