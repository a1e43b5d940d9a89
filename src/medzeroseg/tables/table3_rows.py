"""What is compared in Table 3: a method of the seeds of one configuration, with its scores by case."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from statistics import stdev

from medzeroseg.tables.paired_tests import (
    PairedTest,
    mean_or_nan,
    paired_test,
    require_cases_of_seeds,
    same_cases,
)
from medzeroseg.tables.segmentation_records import CaseScore, MethodResult, SegmentationRecord, scores_of

ROWS = {
    "saliency_crf": "saliency + CRF",
    "saliency_dpfem_crf": "saliency + DPFEM + CRF",
    "saliency_crf_sam": "saliency + CRF + SAM",
    "saliency_dpfem_crf_sam": "saliency + DPFEM + CRF + SAM",
    "weak_resunet": "weak supervision, ResUNet",
    "weak_dynunet": "weak supervision, DynUNet",
    "full_resunet": "full supervision, ResUNet",
    "full_dynunet": "full supervision, DynUNet",
}
"""Key of a row to its title, in the table's order."""

REFERENCE = "full_resunet"
"""The row that the others are tested against."""

METRICS = {"iou": "IoU", "dsc": "DSC", "auc": "AUC", "hd95": "HD95", "nsd": "NSD"}
DISTANCES = ("hd95", "nsd")


@dataclass(frozen=True)
class Row:
    """A method of the seeds of one configuration.

    Attributes:
        runs: The seeds, at least one.
        method: The method.
        scores: The method's scores of each seed.
        left_out: How many cases were tested beside those of the scores; see `on_cases_of`.

    Raises:
        ConfigurationError: A seed lacks a case that another has; both are named.
    """

    runs: Sequence[SegmentationRecord]
    method: MethodResult
    scores: Sequence[Sequence[CaseScore]]
    left_out: int = 0

    def __post_init__(self) -> None:
        """Compare the cases of the seeds."""
        of_seeds = [{score.case_id for score in seed} for seed in self.scores]
        require_cases_of_seeds(self.name, list(zip((run.seed for run in self.runs), of_seeds, strict=True)))

    @property
    def first(self) -> SegmentationRecord:
        """The run that tells what all have in common."""
        return self.runs[0]

    @property
    def key(self) -> str:
        """Key of the row in `ROWS`."""
        assert self.method.table3_row is not None
        return self.method.table3_row

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.first.experiment} ({ROWS[self.key]})"

    @property
    def units(self) -> list[str]:
        """Units of the measured distances: one, unless some cases have lost their spacing."""
        return sorted({score.unit for seed in self.scores for score in seed if not math.isnan(score.hd95)})

    def restricted(self, wanted: Callable[[CaseScore], bool]) -> "Row":
        """The same row with some of its scores."""
        return replace(self, scores=[[score for score in seed if wanted(score)] for seed in self.scores])

    def on_cases_of(self, reference: "Row") -> "Row":
        """The row on the test cases of a trained one.

        A zero-shot row may be tested on every case that its model was not trained on; the trained row needs some of
        these to train on. Rows that are not zero-shot are as they were: they share a split.
        """
        cases = {score.case_id for seed in reference.scores for score in seed}
        beyond = {score.case_id for seed in self.scores for score in seed} - cases
        if self.first.supervision != "zero-shot" or not beyond:
            return self
        return replace(self.restricted(lambda score: score.case_id in cases), left_out=len(beyond))

    def by_case(self, metric: str) -> dict[str, float]:
        """Case to the mean over seeds of the mean over its structures; NaN where it is defined for none."""
        of_seeds = [_case_means(seed, metric) for seed in self.scores]
        return {case: mean_or_nan([seed[case] for seed in of_seeds]) for case in of_seeds[0]}

    def by_seed(self, metric: str) -> list[float]:
        """Mean over cases of each seed."""
        return [mean_or_nan(list(_case_means(seed, metric).values())) for seed in self.scores]

    def summary(self, metric: str) -> dict[str, float | None]:
        """Mean and standard deviations in percent (HD95: in its unit); None where undefined or in mixed units."""
        if metric in DISTANCES and len(self.units) > 1:
            return {"mean": None, "std_cases": None, "std_seeds": None}
        scale = 1 if metric == "hd95" else 100
        cases = [scale * value for value in self.by_case(metric).values() if not math.isnan(value)]
        seeds = [scale * value for value in self.by_seed(metric) if not math.isnan(value)]
        return {
            "mean": mean_or_nan(cases) if cases else None,
            "std_cases": stdev(cases) if len(cases) > 1 else None,
            "std_seeds": stdev(seeds) if len(seeds) > 1 else None,
        }

    def against(self, reference: "Row", metric: str) -> PairedTest | None:
        """Paired test against another row, in percent (HD95: in its unit); None where it cannot be measured.

        Raises:
            ConfigurationError: The two were tested on different cases.
        """
        pair = same_cases(self.by_case(metric), reference.by_case(metric), (self.name, reference.name))
        if metric in DISTANCES and len({*self.units, *reference.units}) > 1:
            return None
        scale = 1 if metric == "hd95" else 100
        test = paired_test(*([scale * value for value in values] for values in pair))
        return test if test.pairs > 1 else None


def rows_of(records: Sequence[SegmentationRecord]) -> list[Row]:
    """The rows of Table 3 by dataset, then in the table's order; a run with other settings is another row.

    Raises:
        ConfigurationError: Two seeds of a row were tested on different cases; they are named.
    """

    def configuration(record: SegmentationRecord) -> tuple[str, str, str]:
        return record.dataset, record.experiment, record.config_hash

    rows = []
    ordered = sorted(records, key=lambda record: (configuration(record), record.seed))
    for _, group in groupby(ordered, key=configuration):
        runs = list(group)
        for method in runs[0].methods:
            if method.table3_row is not None:
                rows.append(Row(runs, method, [scores_of(run.scores, method.method) for run in runs]))
    order = list(ROWS)
    return sorted(rows, key=lambda row: (row.first.dataset, order.index(row.key), row.first.experiment))


def by_dataset(rows: Sequence[Row]) -> Iterator[tuple[list[Row], Row | None]]:
    """The rows of each dataset and the one that they are tested against: of several, that with most seeds.

    Zero-shot rows are given on the cases of that one, see `Row.on_cases_of`.
    """
    for _, group in groupby(rows, key=lambda row: row.first.dataset):
        members = list(group)
        full = [row for row in members if row.key == REFERENCE]
        reference = max(full, key=lambda row: len(row.runs), default=None)
        yield members if reference is None else [row.on_cases_of(reference) for row in members], reference


def _case_means(scores: Sequence[CaseScore], metric: str) -> dict[str, float]:
    of_case: dict[str, list[float]] = {}
    for score in scores:
        of_case.setdefault(score.case_id, []).append(getattr(score, metric))
    return {case: mean_or_nan(values) for case, values in of_case.items()}
