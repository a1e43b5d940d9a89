"""What the rules judge: the data module, its splits and the facts about every case."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from data_modules.base import ImageTextDataModule
from data_modules.check.findings import Finding, Severity
from data_modules.check.reading import CaseFacts
from data_modules.segmentation import SegmentationDataModule
from data_modules.splits import Split

DataModule = ImageTextDataModule | SegmentationDataModule


@dataclass(frozen=True)
class OtherRoot:
    """The pixels of another dataset, to look for common images.

    Attributes:
        name: Its name in messages.
        holders: Hash of the pixels to the (split, case id) that have them.
    """

    name: str
    holders: Mapping[bytes, list[tuple[Split, str]]]


@dataclass(frozen=True)
class Checked:
    """A dataset after every case was read.

    Attributes:
        module: Its data module.
        unusable: Split to why it cannot be indexed.
        left_out: Split to reason to how many.
        facts: Every case of the other splits, in their order.
        other: Another dataset to compare with.
    """

    module: DataModule
    unusable: Mapping[Split, str]
    left_out: Mapping[Split, Mapping[str, int]]
    facts: list[CaseFacts]
    other: OtherRoot | None = None
    by_split: dict[Split, list[CaseFacts]] = field(init=False)

    def __post_init__(self) -> None:
        """Sort the cases by split; a split without cases has an empty list."""
        by_split: dict[Split, list[CaseFacts]] = {split: [] for split in self.left_out}
        for facts in self.facts:
            by_split[facts.split].append(facts)
        object.__setattr__(self, "by_split", by_split)

    @property
    def read(self) -> list[CaseFacts]:
        """The cases that could be read."""
        return [facts for facts in self.facts if facts.refused is None]


Rule = Callable[[Checked], Iterable[Finding]]


def groups(facts: Iterable[CaseFacts], key: Callable[[CaseFacts], Any]) -> dict[Any, list[CaseFacts]]:
    """Sort cases by a key, in the order in which the keys come."""
    found: dict[Any, list[CaseFacts]] = {}
    for one in facts:
        found.setdefault(key(one), []).append(one)
    return found


def about(severity: Severity, code: str, message: str, cases: Iterable[CaseFacts]) -> Finding:
    """Make a finding about cases."""
    return Finding(severity, code, message, tuple(one.case_id for one in cases))


def where(facts: CaseFacts) -> str:
    """Name a case with its split."""
    return f"{facts.split}/{facts.case_id}"


def plural(count: int, noun: str) -> str:
    """Count in words: "1 case", "2,300 cases"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
