"""Labelled cases: a volume or a picture, its label map, and what a data module says about them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from medzeroseg.imaging import InputError

BACKGROUND = 0
"""The label of what is not outlined, in every dataset."""
IGNORE = 255
"""The label of what is unknown, neither background nor a structure: losses and scores leave it out."""

MAX_LABEL = IGNORE - 1
"""The highest id that a structure can have: masks are uint8."""


@dataclass(frozen=True, slots=True)
class CaseArrays:
    """A case as decoded: slices in display orientation, in the intensities of the source.

    Attributes:
        image: (D, H, W), float32 or the source's integer type; row 0 is the top of the picture. MR and CT slices
            lie as radiologists look at them where the file says how; a picture has D = 1.
        mask: (D, H, W) uint8 label ids (`BACKGROUND`, 1..`MAX_LABEL`, `IGNORE`), or None when the case has no
            reference.
        spacing_mm: (between slices, between rows, between columns); None where the format lost it.
    """

    image: npt.NDArray[np.generic]
    mask: npt.NDArray[np.uint8] | None
    spacing_mm: tuple[float, float, float] | None


class CaseSource(Protocol):
    """Where a case comes from; light enough to be copied to every worker process.

    A source is a frozen dataclass: its class and its fields (label conventions, channels), beside the content of its
    files, name its place in the slice cache (see `data_modules.slice_cache.recipe`).
    """

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it is read from: a change of one of them means another case."""
        ...

    @property
    def has_reference(self) -> bool:
        """Whether `read` gives a mask; known without decoding."""
        ...

    def read(self) -> CaseArrays:
        """Decode the case; raises `InputError` naming the file, and what to do, when that fails."""
        ...


@dataclass(frozen=True, slots=True)
class SegmentationCase:
    """A case before it is read.

    Attributes:
        case_id: Its name in the dataset, unique within it; named in errors, tables and file names. Never taken from
            a header.
        patient: Whose it is; no patient is in two splits. Where a dataset names no patients, the case id.
        source: Reads it.
        facts: What the dataset says about it beside the labels, for captions and tables: {"phase": "end-diastole"}.
    """

    case_id: str
    patient: str
    source: CaseSource
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LabelCheck:
    """Tells whether label ids are a dataset's.

    Attributes:
        names: Label id to the structure's name, for the dataset's ids but `BACKGROUND` and `IGNORE`.
    """

    names: Mapping[int, str]

    def __call__(self, source: CaseSource, labels: Iterable[int]) -> None:
        """Refuse ids that the dataset does not have.

        Args:
            source: Where they were found; its last files are named.
            labels: The ids found.

        Raises:
            InputError: Names file and ids.
        """
        unknown = sorted(set(labels) - self.names.keys() - {BACKGROUND, IGNORE})
        if unknown:
            known = ", ".join(f"{label} {name}" for label, name in self.names.items())
            raise InputError(
                f"{source.files[-1]}: the label map holds {', '.join(map(str, unknown[:5]))}, which the dataset does "
                f"not have; its labels are {known}"
            )


@dataclass
class CaseIndex:
    """The cases found for one split, and what was left out.

    Attributes:
        cases: In a fixed order.
        skipped: Reason -> how many ("volumes without a reference": 2).
    """

    cases: list[SegmentationCase]
    skipped: dict[str, int] = field(default_factory=dict)
