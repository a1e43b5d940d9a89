"""Volumes decoded once, kept as memory-mapped arrays from which single slices are read.

    cache folder/
    ├── CACHEDIR.TAG                      tells backup programs that this can be made again
    ├── entries/<digest>/                 one case
    │   ├── image.npy                     (D, H, W), int16, uint16, uint8 or float32
    │   ├── mask.npy                      (D, H, W) uint8; absent when the case has no reference
    │   └── meta.json                     shape, spacing, percentiles, labels, the arrays' digests
    └── stamps/<digest>.json              size and times of a case's files when they were last hashed

An entry is named by the content of its source files, by the source's recipe (class and settings) and by
`PREPROCESSING_VERSION`: a changed file or another label convention is another entry, a moved dataset is not. An entry
is written into a temporary folder and renamed into place; of several processes that make the same one, the first wins
and the others discard theirs. Nothing is removed but entries found damaged: the folder may be deleted whenever no run
uses it.
"""

import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from data_modules.cases import CaseArrays, CaseSource, SegmentationCase
from data_modules.cores import usable_cores
from data_modules.seeding import stable_hash
from data_modules.slice_cache_entry import CachedCase, load_entry, put_entry, write_entry
from data_modules.slice_cache_key import StampBook, content_key, file_stamps, recipe
from medzeroseg.imaging import InputError

PREPROCESSING_VERSION = 1
"""Raise it when readers or this module give other arrays for the same files: old entries are then left alone."""

# Each thread holds a decoded volume, its file's bytes and a mask: more threads gain little and cost memory.
_MOST_THREADS = 8
_SECONDS_BETWEEN_REPORTS = 10.0
_TAG = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# Decoded volumes of medzeroseg's data modules; can be deleted and is then made again.\n"
)

ResultT = TypeVar("ResultT")

log = logging.getLogger(__name__)


class SliceCache:
    """A folder of decoded cases; several threads, processes and ranks may use it at once."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made on the first write.

        Args:
            folder: Where the entries lie.
        """
        self.folder = folder
        self.stamps = StampBook(folder / "stamps")

    def open(self, source: CaseSource) -> CachedCase:
        """Find a case's entry, or decode the case and make it.

        Raises:
            InputError: A source file is missing or damaged, or changes while it is read; or the cache cannot be
                written to.
        """
        how = recipe(source)
        stamps = file_stamps(source)
        known = self.stamps.key(source, how, PREPROCESSING_VERSION, stamps)
        key = known or content_key(source, how, PREPROCESSING_VERSION)
        entry = self.folder / "entries" / key
        case = load_entry(entry)
        if case is None:
            arrays = source.read()
            if file_stamps(source) != stamps:
                raise InputError(f"{source.files[0]}: the file changes while it is read; wait until it is complete")
            case = self._make(entry, arrays)
        if known is None:
            try:
                self.stamps.remember(source, how, PREPROCESSING_VERSION, stamps, key)
            except OSError as error:  # a cache that may only be read serves all the same
                log.debug("%s: not written (%s)", self.stamps.folder, error)
        return case

    def open_all(
        self, cases: Sequence[SegmentationCase], open_case: Callable[[SegmentationCase], ResultT], title: str
    ) -> list[ResultT]:
        """Open many cases in threads, with progress in the log when it takes long.

        Decompression, hashing and writing let go of the interpreter lock, so threads suffice, and no pixels are
        sent between processes. Processes that start together begin at different cases and so share the work.

        Args:
            cases: The cases.
            open_case: What to do with each; called in a thread.
            title: The dataset's name in the log.

        Returns:
            What `open_case` gave, in the order of `cases`.
        """
        if not cases:
            return []
        first = stable_hash(f"slice cache/{os.getpid()}") % len(cases)
        order = [*range(first, len(cases)), *range(first)]
        results: dict[int, ResultT] = {}
        reported = time.monotonic()
        with ThreadPoolExecutor(min(_MOST_THREADS, usable_cores())) as pool:
            futures = {number: pool.submit(open_case, cases[number]) for number in order}
            try:
                for number, future in futures.items():
                    results[number] = future.result()
                    if time.monotonic() - reported > _SECONDS_BETWEEN_REPORTS:
                        reported = time.monotonic()
                        log.info("%s: %d of %d cases decoded or found", title, len(results), len(cases))
            finally:  # after an error the rest need not be decoded
                pool.shutdown(wait=True, cancel_futures=True)
        return [results[number] for number in range(len(cases))]

    def _make(self, entry: Path, arrays: CaseArrays) -> CachedCase:
        temporary = entry.with_name(f".{uuid.uuid4().hex}.tmp")
        try:
            temporary.mkdir(parents=True)
            tag = self.folder / "CACHEDIR.TAG"
            if not tag.exists():
                tag.write_text(_TAG, encoding="utf-8")
            write_entry(temporary, arrays)
            put_entry(temporary, entry)
        except OSError as error:
            needed_mb = (arrays.image.nbytes + (0 if arrays.mask is None else arrays.mask.nbytes)) / 1e6
            raise InputError(
                f"{self.folder}: cannot write a decoded case of {needed_mb:,.1f} MB there "
                f"({error.strerror or error}); make room, or choose another folder with cache_dir"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        case = load_entry(entry)
        if case is None:
            raise InputError(
                f"{entry}: what was just written there does not read back; the disk may be faulty: "
                "choose another folder with cache_dir"
            )
        return case


def default_cache_folder(root: Path) -> Path:
    """Choose the cache beside the data where that can be written, else the user's own cache folder."""
    beside = root / ".medzeroseg_cache"
    if os.access(beside if beside.is_dir() else root, os.W_OK):
        return beside
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "medzeroseg" / "slices"
