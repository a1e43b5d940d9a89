"""What a check says: findings, and the report that holds them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        severity: "error" would break training or make its scores worthless; "warning" is worth a look; "info" is
            good to know.
        code: What it is, in a word for programs ("mask_empty").
        message: What it is, for people, with counts and what to do.
        case_ids: The cases concerned; empty where it is not about cases.
        details: A line a case where each has its own story; else empty.
    """

    severity: Severity
    code: str
    message: str
    case_ids: tuple[str, ...] = ()
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitSummary:
    """What one split holds.

    Attributes:
        cases: Pairs or cases found.
        patients: Distinct patients; None where the dataset names none.
        slices: Slices of all cases read; None for image-text pairs.
        shapes: (height, width) in pixels to the number of cases, commonest first.
        spacings_mm: Smallest and largest spacing (between slices, rows, columns); None where no case has one.
        left_out: Reason to how many, as the data module tells it.
    """

    cases: int
    patients: int | None
    slices: int | None
    shapes: Mapping[tuple[int, int], int]
    spacings_mm: tuple[tuple[float, float, float], tuple[float, float, float]] | None
    left_out: Mapping[str, int]


@dataclass(frozen=True)
class LabelSummary:
    """How often a label occurs.

    Attributes:
        label: Its id in the masks.
        name: The structure's name.
        cases: Split to the number of cases that show it.
        share: Its part of all voxels of the cases that show it, 0..1.
    """

    label: int
    name: str
    cases: Mapping[str, int]
    share: float


@dataclass
class Report:
    """Everything that a check found out about a dataset.

    Attributes:
        dataset: The name under which it was asked for.
        class_path: Its data module.
        root: Its folder.
        options: Options of the data module that were given.
        splits: Split to what it holds.
        labels: One for each label of the dataset; empty for image-text pairs.
        findings: Errors first.
        wall_s: Seconds that reading took.
        workers: Threads that read.
        bytes_read: Size of the files read.
    """

    dataset: str
    class_path: str
    root: str
    options: Mapping[str, str] = field(default_factory=dict)
    splits: dict[str, SplitSummary] = field(default_factory=dict)
    labels: list[LabelSummary] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    wall_s: float = 0.0
    workers: int = 1
    bytes_read: int = 0

    def count(self, severity: Severity) -> int:
        """Count the findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """1 where something would break training, else 0."""
        return 1 if self.count("error") else 0

    def as_data(self) -> dict[str, Any]:
        """Give the report as plain data for JSON."""
        return {
            "dataset": self.dataset,
            "class_path": self.class_path,
            "root": self.root,
            "options": dict(self.options),
            "errors": self.count("error"),
            "warnings": self.count("warning"),
            "splits": {split: _split_data(summary) for split, summary in self.splits.items()},
            "labels": [
                {"id": label.label, "name": label.name, "cases": dict(label.cases), "share": label.share}
                for label in self.labels
            ],
            "findings": [
                {
                    "severity": finding.severity,
                    "code": finding.code,
                    "message": finding.message,
                    "case_ids": list(finding.case_ids),
                    "details": list(finding.details),
                }
                for finding in self.findings
            ],
            "wall_s": round(self.wall_s, 3),
            "workers": self.workers,
            "bytes_read": self.bytes_read,
        }


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Sort errors first; otherwise the order stays."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def _split_data(summary: SplitSummary) -> dict[str, Any]:
    low_high = summary.spacings_mm
    return {
        "cases": summary.cases,
        "patients": summary.patients,
        "slices": summary.slices,
        "shapes_px": [{"height": h, "width": w, "cases": n} for (h, w), n in summary.shapes.items()],
        "spacing_mm": None if low_high is None else {"smallest": list(low_high[0]), "largest": list(low_high[1])},
        "left_out": dict(summary.left_out),
    }
