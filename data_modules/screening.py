"""Which of the pairs found are used: readable ones, a chosen number of them."""

import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import Protocol, TypeVar

from data_modules.cores import usable_cores
from data_modules.seeding import stable_hash
from medzeroseg.imaging import InputError

log = logging.getLogger(__name__)


class Named(Protocol):
    """A pair or a case before it is read."""

    @property
    def case_id(self) -> str:
        """Its name in the dataset."""
        ...


class Readable(Protocol):
    """What a pair or a case is read from."""

    def read(self) -> object:
        """Decode it; raises `InputError` when that fails."""
        ...


class NamedSource(Named, Protocol):
    """A pair or a case that can be read."""

    @property
    def source(self) -> Readable:
        """Where it comes from."""
        ...


NamedT = TypeVar("NamedT", bound=Named)
NamedSourceT = TypeVar("NamedSourceT", bound=NamedSource)


def select_by_hash(records: list[NamedT], limit: int | None, seed: int) -> list[NamedT]:
    """Keep at most `limit` records, chosen by a seed, in their order.

    Each case draws its number from the seed and its id alone, and the lowest are kept: a copy of the dataset
    that lacks some images keeps almost the same cases as a complete one.
    """
    if limit is None or len(records) <= limit:
        return records
    by_number = sorted(range(len(records)), key=lambda i: stable_hash(f"{seed}/{records[i].case_id}"))
    return [records[i] for i in sorted(by_number[:limit])]


def hold_out(patients: Iterable[str], share: float, name: str) -> set[str]:
    """Choose patients to keep out of training, by a rule that needs no stored list.

    A patient's number is the hash of the set's name and the patient's id; the lowest share is held out, one
    at least (none when the share is 0).

    Args:
        patients: Their ids; repeated ones count once.
        share: Which part of them, 0..1.
        name: The set's name: two sets that share ids are split independently.
    """
    ordered = sorted(set(patients), key=lambda patient: (stable_hash(f"{name}/{patient}"), patient))
    return set(ordered[: ceil(share * len(ordered))])


def check_share(name: str, share: float) -> None:
    """Refuse a share to hold out that leaves nothing to train on.

    Raises:
        ValueError: It is not in [0, 1); names the argument.
    """
    if not 0 <= share < 1:
        raise ValueError(f"{name} must be from 0 up to, not including, 1, got {share}")


def some(names: Iterable[str], most: int = 5) -> str:
    """Name the first few for a message: "a, b, c and 7 more"."""
    listed = list(names)
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more:,} more" if more > 0 else "")


def without_unreadable(records: list[NamedSourceT], skipped: dict[str, int]) -> list[NamedSourceT]:
    """Decode every picture, in parallel, and keep the pairs or cases that can be read.

    Args:
        records: The pairs or cases.
        skipped: Gets the number left out, under "unreadable images".
    """

    def failure(record: NamedSourceT) -> str | None:
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
