"""Table 2: zero-shot segmentation by model and saliency method, beside baselines and the published figures."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml

from medzeroseg.tables.paired_tests import require_cases_of_seeds
from medzeroseg.tables.segmentation_records import (
    LABELS_NOTE,
    PUBLISHED_ON,
    CaseScore,
    MethodResult,
    SegmentationRecord,
    scores_of,
)
from medzeroseg.tables.writer import Table

_PUBLISHED = Path(__file__).with_name("published_table2.yaml")
METRICS = {"iou": "IoU", "dsc": "DSC", "auc": "AUC", "pointing": "Pointing"}
_SCREEN = ("Dataset", "Model", "Saliency", "IoU", "DSC", "DSC, present", "AUC", "Pointing", "Cases", "Time, min")
_NOTES = (
    "Percent, mean ± sample standard deviation over cases. A case is a volume (or a picture); its score is the mean "
    "over its structures. With several seeds a case's score is first averaged over them; in brackets that of the "
    "seeds' means.",
    "DSC and IoU: a structure that is absent from a case and was segmented all the same counts 0; one that is absent "
    "and was not found has no score and is counted under `absent, left empty`. `DSC, present` is the mean over the "
    "structures that the case holds, the usual protocol for Synapse.",
    "AUC: pixel ROC of the saliency map, 50 is chance. Pointing: share of the structure's slices whose brightest point "
    "lies inside it.",
    "Baselines: no image is understood; a method that does not beat them has found nothing.",
    LABELS_NOTE,
    "Time: saliency, guiding features, post-processing and segmenter over all cases, per seed, on the machine named in "
    "the JSON; rows with the same saliency share its maps, and each counts its whole time.",
    "Published: IoU, DSC, AUC and minutes of the publication, with its model, on the real dataset that the cell names; "
    "not measured here.",
)


def build_table2(records: Sequence[SegmentationRecord]) -> Table:
    """Build Table 2 from finished runs: a row for each dataset, model and method.

    Args:
        records: Finished runs, of any experiments and datasets.

    Returns:
        The table; without rows if there are no records.

    Raises:
        ConfigurationError: Two seeds of a row were tested on different cases; they are named.
    """
    published = yaml.safe_load(_PUBLISHED.read_text(encoding="utf-8"))
    table = Table(
        name="table2",
        caption="Table 2. Zero-shot segmentation from text, in percent.",
        columns=[
            *("Dataset", "Model", "Saliency", "IoU", "DSC", "DSC, present", "AUC", "Pointing", "Cases"),
            *("Absent, left empty", "Absent, found", "Layer", "Labels used", "Time, min"),
            *("Published (IoU, DSC, AUC; time)", "Seeds", "Revision", "Config"),
        ],
        rows=[],
        notes=list(_NOTES),
        screen_columns=_SCREEN,
    )
    for runs in _configurations(records):
        for method in runs[0].methods:
            key = f"{runs[0].published_row}/{method.method}"
            _add_row(table, runs, method, published.get(key))
    return table


def build_structure_table(records: Sequence[SegmentationRecord]) -> Table:
    """The same runs by structure: over the cases that hold it.

    Args:
        records: Finished runs.

    Returns:
        A table with a row for each dataset, model, method and structure.

    Raises:
        ConfigurationError: Two seeds of a row were tested on different cases; they are named.
    """
    table = Table(
        name="table2_structures",
        caption="Table 2 by structure, in percent, over the cases that hold it.",
        columns=["Dataset", "Model", "Saliency", "Structure", *METRICS.values(), "Cases", "Seeds"],
        rows=[],
        notes=[
            "Mean ± sample standard deviation over cases; with several seeds a case is first averaged over them; in "
            "brackets that of the seeds' means."
        ],
    )
    for runs in _configurations(records):
        for method in runs[0].methods:
            of_seeds = _scores_of_seeds(runs, method)
            for structure in dict.fromkeys(score.structure for seed in of_seeds for score in seed):
                present = [[s for s in seed if s.structure == structure and s.reference_voxels] for seed in of_seeds]
                figures = {name: _Figure.of(present, name) for name in METRICS}
                first, seeds = runs[0], [run.seed for run in runs]
                values: dict[str, Any] = {
                    "dataset": first.dataset,
                    "label": first.label,
                    "experiment": first.experiment,
                }
                values |= {
                    "method": method.method,
                    "structure": structure,
                    "cases": len(figures["dsc"].by_case),
                    "labels_used": method.labels_used,
                    "chosen_on_validation": method.chosen_on_validation,
                    "reveals_ground_truth": method.reveals_ground_truth,
                    "seeds": seeds,
                }
                table.values.append(values | {name: figure.summary for name, figure in figures.items()})
                cells = [first.dataset, first.label, method.title, structure, *map(str, figures.values())]
                table.rows.append([*cells, str(values["cases"]), ", ".join(map(str, seeds))])
    return table


def _configurations(records: Sequence[SegmentationRecord]) -> Iterable[list[SegmentationRecord]]:
    def key(record: SegmentationRecord) -> tuple[str, str, str]:
        return record.dataset, record.experiment, record.config_hash

    # Seeds of one configuration only: a run with other settings is another row, not another seed.
    for _, group in groupby(sorted(records, key=lambda record: (key(record), record.seed)), key=key):
        yield list(group)


def _scores_of_seeds(runs: Sequence[SegmentationRecord], method: MethodResult) -> list[list[CaseScore]]:
    of_seeds = [scores_of(run.scores, method.method) for run in runs]
    cases = [(run.seed, {score.case_id for score in seed}) for run, seed in zip(runs, of_seeds, strict=True)]
    require_cases_of_seeds(f"{runs[0].experiment} ({method.title})", cases)
    return of_seeds


def _add_row(
    table: Table, runs: Sequence[SegmentationRecord], method: MethodResult, published: dict[str, Any] | None
) -> None:
    first = runs[0]
    of_seeds = _scores_of_seeds(runs, method)
    scores = [score for seed in of_seeds for score in seed]
    absent = [score for score in scores if not score.reference_voxels]
    found = sum(score.predicted_voxels > 0 for score in absent)
    figures = {name: _Figure.of(of_seeds, name) for name in METRICS}
    figures["dsc_present"] = _Figure.of([[s for s in seed if s.reference_voxels] for seed in of_seeds], "dsc")
    minutes = [m.minutes for run in runs for m in run.methods if m.method == method.method]
    cases = len({score.case_id for score in scores})
    labels = method.labels_in_words
    labels += ", prompts reveal ground truth" if method.reveals_ground_truth else ""
    values: dict[str, Any] = {
        "dataset": first.dataset,
        "experiment": first.experiment,
        "label": first.label,
        "method": method.method,
        "baseline": method.baseline,
        "metrics": {name: figure.summary for name, figure in figures.items()},
        "cases": cases,
        "absent_left_empty": (len(absent) - found) / len(runs),
        "absent_found": found / len(runs),
        "layer": method.layer,
        "labels_used": method.labels_used,
        "chosen_on_validation": method.chosen_on_validation,
        "reveals_ground_truth": method.reveals_ground_truth,
        "minutes": minutes,
        "published": published,
        "seeds": [run.seed for run in runs],
        "git_revisions": sorted({run.git_revision for run in runs}),
        "config_hash": first.config_hash,
        "environment": first.environment,
    }
    table.values.append(values)
    table.rows.append(
        [
            first.dataset,
            first.label,
            f"{method.title} (baseline)" if method.baseline else method.title,
            *(str(figures[name]) for name in ("iou", "dsc", "dsc_present", "auc", "pointing")),
            str(cases),
            f"{values['absent_left_empty']:g}",
            f"{values['absent_found']:g}",
            method.layer,
            labels,
            f"{fmean(minutes):.2f}",
            _published(published, first.published_row),
            ", ".join(map(str, values["seeds"])),
            ", ".join(r[:8] + ("*" if r.endswith("-dirty") else "") for r in values["git_revisions"]),
            first.config_hash,
        ]
    )


def _by_case(scores: Iterable[CaseScore], name: str) -> list[float]:
    """Mean of each case's defined values of a metric; a case without any is left out."""
    of_case: dict[str, list[float]] = defaultdict(list)
    for score in scores:
        value: float = getattr(score, name)
        if not math.isnan(value):
            of_case[score.case_id].append(value)
    return [fmean(values) for values in of_case.values()]


@dataclass(frozen=True)
class _Figure:
    """A metric over cases and over seeds, 0..1.

    Attributes:
        by_case: Each case's mean over seeds.
        by_seed: Each seed's mean over cases.
    """

    by_case: Sequence[float]
    by_seed: Sequence[float]

    @classmethod
    def of(cls, seeds: Sequence[Sequence[CaseScore]], name: str) -> "_Figure":
        by_case = _by_case((score for seed in seeds for score in seed), name)
        return cls(by_case, [fmean(cases) for seed in seeds if (cases := _by_case(seed, name))])

    @property
    def summary(self) -> dict[str, float | None]:
        """In percent."""
        std, std_seeds = (100 * stdev(values) if len(values) > 1 else None for values in (self.by_case, self.by_seed))
        return {"mean": 100 * fmean(self.by_case) if self.by_case else None, "std": std, "std_seeds": std_seeds}

    def __str__(self) -> str:
        if not self.by_case:
            return "-"
        mean, std, std_seeds = self.summary.values()
        text = f"{mean:.2f}" + ("" if std is None else f" ± {std:.2f}")
        return text if std_seeds is None else f"{text} (± {std_seeds:.2f})"


def _published(entry: dict[str, Any] | None, row: str | None) -> str:
    if entry is None or row is None:
        return "-"
    figures = ", ".join(f"{entry[name][0]:.2f}±{entry[name][1]:.2f}" for name in ("iou", "dsc", "auc"))
    return f"{PUBLISHED_ON[row.partition('/')[0]]}: {figures}; {entry['minutes']:.1f} min"
