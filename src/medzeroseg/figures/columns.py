"""Which run fills which column of a figure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from medzeroseg.errors import ConfigurationError
from medzeroseg.figures.kept_slices import KeptSlices, read_slices
from medzeroseg.tables.segmentation_records import MethodResult, SegmentationRecord, scores_of

LAYOUT = Path(__file__).with_name("layout.yaml")


@dataclass(frozen=True)
class ColumnRule:
    """What may fill a column.

    Attributes:
        role: Its key.
        title: Its head.
        experiments: Names of experiments with `{dataset}` in them; the first that has been run is taken.
        methods: Keys of methods, the first that the run has is taken.
        table3_rows: The same by their rows in Table 3; where there are no `methods`.
    """

    role: str
    title: str
    experiments: Sequence[str]
    methods: Sequence[str] = ()
    table3_rows: Sequence[str] = ()

    def method_of(self, record: SegmentationRecord) -> MethodResult | None:
        """The method of a run that the column shows."""
        by_key = {method.method: method for method in record.methods}
        by_row = {method.table3_row: method for method in record.methods if method.table3_row}
        wanted = [by_key.get(key) for key in self.methods] + [by_row.get(row) for row in self.table3_rows]
        return next((method for method in wanted if method is not None), None)


@dataclass(frozen=True)
class Layout:
    """The file of that name.

    Attributes:
        datasets: Name of a figure -> the datasets for which it is drawn.
        columns: In their order.
        cases_by: Role by whose DSC cases are chosen.
    """

    datasets: Mapping[str, Sequence[str]]
    columns: Sequence[ColumnRule]
    cases_by: str

    @classmethod
    def load(cls, path: Path = LAYOUT) -> "Layout":
        """Read the file."""
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        columns = [ColumnRule(role, **rule) for role, rule in content["columns"].items()]
        return cls(content["datasets"], columns, content["cases_by"])


@dataclass(frozen=True)
class Column:
    """A column of a figure.

    Attributes:
        rule: What may fill it.
        record: The run that does; None: none has been run.
        method: Its method.
        kept: Its slices.
        problem: Why it is empty; of a filled one nothing.
        scores: Case -> DSC in [0, 1], the mean over its structures; NaN where it has none.
    """

    rule: ColumnRule
    record: SegmentationRecord | None = None
    method: MethodResult | None = None
    kept: KeptSlices | None = None
    problem: str = ""
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def filled(self) -> bool:
        """Whether there is something to draw."""
        return self.kept is not None

    @property
    def provenance(self) -> dict[str, Any]:
        """Where it comes from, as plain values."""
        values: dict[str, Any] = {"role": self.rule.role, "title": self.rule.title}
        if self.record is None or self.method is None:
            return values | {"problem": self.problem}
        return values | {
            "experiment": self.record.experiment,
            "model": self.record.label,
            "method": self.method.method,
            "method_title": self.method.title,
            "seed": self.record.seed,
            "labels_used": self.method.labels_used,
            "chosen_on_validation": self.method.chosen_on_validation,
            "git_revision": self.record.git_revision,
            "config_hash": self.record.config_hash,
        }


def fill_columns(layout: Layout, dataset: str, records: Sequence[SegmentationRecord], runs: Path) -> list[Column]:
    """Find what fills the columns of a dataset's figure.

    The seed is the lowest of the column by which cases are chosen; a column without it takes its own lowest.

    Args:
        layout: The rules.
        dataset: The dataset.
        records: Finished runs below `runs`.
        runs: Their folder.

    Raises:
        ConfigurationError: A run's slices are damaged, or not those of its record.
    """
    of_dataset = [record for record in records if record.dataset == dataset]
    [chooser] = [rule for rule in layout.columns if rule.role == layout.cases_by]
    found, _ = _run_of(chooser, dataset, of_dataset, None)
    seed = None if found is None else found.seed
    return [_fill(rule, dataset, of_dataset, seed, runs) for rule in layout.columns]


def _run_of(
    rule: ColumnRule, dataset: str, records: Sequence[SegmentationRecord], seed: int | None
) -> tuple[SegmentationRecord | None, MethodResult | None]:
    for pattern in rule.experiments:
        own = [record for record in records if record.experiment == pattern.format(dataset=dataset)]
        for record in sorted(own, key=lambda one: (one.seed != seed, one.seed)):
            method = rule.method_of(record)
            if method is not None:
                return record, method
    return None, None


def _fill(
    rule: ColumnRule, dataset: str, records: Sequence[SegmentationRecord], seed: int | None, runs: Path
) -> Column:
    record, method = _run_of(rule, dataset, records, seed)
    if record is None or method is None:
        return Column(rule, problem="not run")
    folder = run_folder(runs, record)
    kept = read_slices(folder)
    if kept is None:
        return Column(rule, record, method, problem="run before slices were kept: test it again")
    scores = case_dsc(record, method.method)
    strange = [one.case_id for one in kept.slices if one.case_id not in scores or method.method not in one.masks]
    if strange:
        raise ConfigurationError(
            f"{folder}: the slices kept are not those of the record (case {strange[0]}). Test that run again."
        )
    return Column(rule, record, method, kept, scores=scores)


def run_folder(runs: Path, record: SegmentationRecord) -> Path:
    """The folder of a run, as `medzeroseg train` names it."""
    return runs / record.experiment / f"seed_{record.seed}"


def case_dsc(record: SegmentationRecord, method: str) -> dict[str, float]:
    """Case -> mean DSC over its structures, as in Table 3; NaN where no structure has one."""
    of_case: dict[str, list[float]] = {}
    for score in scores_of(record.scores, method):
        of_case.setdefault(score.case_id, []).append(score.dsc)
    known = {case: [value for value in values if not math.isnan(value)] for case, values in of_case.items()}
    return {case: fmean(values) if values else math.nan for case, values in known.items()}


def choose_cases(scores: Mapping[str, float], among: Sequence[str]) -> dict[str, str]:
    """Best, median and worst case by DSC, equals in the order of their names; of two in the middle the lower.

    Args:
        scores: Case -> DSC; NaN is not chosen.
        among: The cases that can be drawn.

    Returns:
        `best`, `median`, `worst` -> case, each case once: of two cases no median, of one the best alone.
    """
    known = [case for case in among if not math.isnan(scores[case])]
    order = sorted(known, key=lambda case: (-scores[case], case))
    if len(order) < 3:
        return dict(zip(("best", "worst"), order, strict=False))
    return {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
