"""Which of the pairs found are used: readable ones, a chosen number of them."""

import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from data_modules.pairs import ImageTextRecord, stable_hash
from medzeroseg.imaging import InputError

log = logging.getLogger(__name__)


def select_by_hash(records: list[ImageTextRecord], limit: int | None, seed: int) -> list[ImageTextRecord]:
    """Keep at most `limit` records, chosen by a seed, in their order.

    Each case draws its number from the seed and its id alone, and the lowest are kept: a copy of the dataset
    that lacks some images keeps almost the same cases as a complete one.
    """
    if limit is None or len(records) <= limit:
        return records
    by_number = sorted(range(len(records)), key=lambda i: stable_hash(f"{seed}/{records[i].case_id}"))
    return [records[i] for i in sorted(by_number[:limit])]


def some(names: Iterable[str], most: int = 5) -> str:
    """Name the first few for a message: "a, b, c and 7 more"."""
    listed = list(names)
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more:,} more" if more > 0 else "")


def without_unreadable(records: list[ImageTextRecord], skipped: dict[str, int]) -> list[ImageTextRecord]:
    """Decode every picture, in parallel, and keep the pairs whose picture can be read.

    Args:
        records: The pairs.
        skipped: Gets the number left out, under "unreadable images".
    """

    def failure(record: ImageTextRecord) -> str | None:
        try:
            record.source.read()
        except InputError as error:
            return f"case {record.case_id}: {error}"
        return None

    # Threads suffice: Pillow lets go of the interpreter lock while it decodes.
    with ThreadPoolExecutor(usable_cores()) as pool:
        failures = list(pool.map(failure, records))
    bad = [text for text in failures if text is not None]
    if bad:
        skipped["unreadable images"] = len(bad)
        log.warning("left out %d unreadable image(s): %s", len(bad), some(bad))
    return [record for record, text in zip(records, failures, strict=True) if text is None]


def usable_cores() -> int:
    """Count the cores that this process may use."""
    # The affinity mask is what a container or a batch system leaves us; macOS has none.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
