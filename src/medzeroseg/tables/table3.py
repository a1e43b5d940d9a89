"""Table 3: how far segmentation without masks is from full supervision, tested on the same cases."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from medzeroseg.tables.paired_tests import PairedTest, stars
from medzeroseg.tables.segmentation_records import LABELS_NOTE, PUBLISHED_ON, SegmentationRecord
from medzeroseg.tables.table3_rows import DISTANCES, METRICS, ROWS, Row, by_dataset, rows_of
from medzeroseg.tables.writer import Table

_PUBLISHED = Path(__file__).with_name("published_table3.yaml")
_SCREEN = ("Dataset", "Method", *METRICS.values(), "% of full DSC", "p of DSC: t, Wilcoxon", "Cases")
_NOTES = (
    "IoU, DSC, AUC, NSD in percent. Mean ± sample standard deviation over cases; in brackets, with several seeds, that "
    "of the seeds' means. A case is a volume (or a picture); its score is the mean over structures, and over seeds.",
    "HD95: the larger of both directed 95th percentiles of the distance between border voxels (MONAI's definition), in "
    "mm, or in pixels (px) where the data has lost its spacing. NSD: share of border voxels within the tolerance.",
    "A structure that one of reference and prediction lacks: DSC, IoU and NSD count 0, HD95 the image's diagonal (how "
    "many such: `One empty`). One that both lack has no score and is counted under `Both empty`; per seed.",
    "Stars: two-tailed paired t-test against the fully supervised ResUNet on the same cases, whichever is better: "
    "* p < 0.05, ** p < 0.01, *** p < 0.001. Beside it the Wilcoxon signed-rank test, and the 95 % bootstrap interval "
    "of the mean difference of DSC (10,000 resamples of the cases). Not corrected for the number of tests.",
    "Cases: a row is tested on no case that its model was trained on; the model of a zero-shot row may have been "
    "trained on captions of other patients of the dataset, those of the real samples derived from their labels. Where "
    "a zero-shot row was tested on more cases than the fully supervised ResUNet, its scores here are over the latter's "
    "test cases (`12 of 30`). A case that a row or a seed lacks is an error.",
    LABELS_NOTE,
    "AUC: pixel ROC of the saliency map, of trained networks that of their probability.",
    "Published: IoU, DSC, AUC of the publication on the real dataset that the cell names; not measured here.",
)


def build_table3(records: Sequence[SegmentationRecord]) -> Table:
    """Build Table 3 from finished runs: the methods that have a row in it, by dataset.

    Args:
        records: Finished runs, of any experiments and datasets.

    Returns:
        The table; without rows if no run has a method for it. A dataset without the fully supervised ResUNet has `-`
        in the place of tests.

    Raises:
        ConfigurationError: Two rows of a dataset were tested on different cases; they are named.
    """
    published = yaml.safe_load(_PUBLISHED.read_text(encoding="utf-8"))
    table = Table(
        name="table3",
        caption="Table 3. Segmentation without masks, with pseudo-masks, and with full supervision.",
        columns=[
            *("Dataset", "Method", "Model", "Details", *METRICS.values(), "NSD tolerance", "% of full DSC"),
            *("Difference of DSC [95 %]", "p of DSC: t, Wilcoxon", "Cases", "Both empty", "One empty"),
            *("Labels used", "Published (IoU, DSC, AUC)", "Seeds", "Revision", "Config"),
        ],
        rows=[],
        notes=list(_NOTES),
        screen_columns=_SCREEN,
    )
    for rows, reference in by_dataset(rows_of(records)):
        for row in rows:
            _add_row(table, row, reference, published)
    return table


def build_table3_structures(records: Sequence[SegmentationRecord]) -> Table:
    """The same rows by structure, over the cases whose reference holds it.

    Args:
        records: Finished runs.

    Returns:
        A table with a row for each dataset, method and structure.

    Raises:
        ConfigurationError: As `build_table3`.
    """
    table = Table(
        name="table3_structures",
        caption="Table 3 by structure, over the cases that hold it.",
        columns=["Dataset", "Method", "Model", "Structure", *METRICS.values(), "% of full DSC", "Cases", "Seeds"],
        rows=[],
        notes=["As Table 3, over the cases whose reference holds the structure, stars included."],
    )
    for rows, reference in by_dataset(rows_of(records)):
        for structure in dict.fromkeys(score.structure for row in rows for score in row.scores[0]):
            full = None if reference is None else _of_structure(reference, structure)
            for row in rows:
                own = _of_structure(row, structure)
                cells, values = _figures(own, None if row is reference else full)
                share = _share(values, full)
                table.values.append(_identity(row) | values | {"structure": structure, "percent_of_full_dsc": share})
                names = [row.first.dataset, ROWS[row.key], row.first.label, structure]
                cases, seeds = len(own.by_case("dsc")), ", ".join(str(run.seed) for run in row.runs)
                table.rows.append([*names, *cells, _number(share, "{:.1f}"), str(cases), seeds])
    return table


def _of_structure(row: Row, structure: str) -> Row:
    return row.restricted(lambda score: score.structure == structure and score.reference_voxels > 0)


def _identity(row: Row) -> dict[str, Any]:
    first = row.first
    return {
        "dataset": first.dataset,
        "experiment": first.experiment,
        "label": first.label,
        "supervision": first.supervision,
        "row": row.key,
        "method": row.method.method,
        "seeds": [run.seed for run in row.runs],
    }


def _figures(row: Row, reference: Row | None) -> tuple[list[str], dict[str, Any]]:
    """The cells of all metrics, and the same as numbers with their tests."""
    summaries = {metric: row.summary(metric) for metric in METRICS}
    tests = {metric: None if reference is None else row.against(reference, metric) for metric in METRICS}
    cells = []
    for metric, summary in summaries.items():
        test = tests[metric]
        mixed = metric in DISTANCES and len(row.units) > 1
        cell = "mixed units" if mixed else _spread(summary) + ("" if test is None else stars(test.t_p_value))
        cells.append(f"{cell} {row.units[0]}" if metric == "hd95" and len(row.units) == 1 else cell)
    values = {"metrics": summaries, "tests": {metric: _test_values(test) for metric, test in tests.items()}}
    return cells, values | {"units": row.units}


def _add_row(table: Table, row: Row, reference: Row | None, published: dict[str, Any]) -> None:
    is_reference = row is reference
    cells, values = _figures(row, None if is_reference else reference)
    test = None if is_reference or reference is None else row.against(reference, "dsc")
    share = _share(values, reference)
    scores = [score for seed in row.scores for score in seed]
    empty = [(score.reference_voxels == 0) + (score.predicted_voxels == 0) for score in scores]
    both, one = empty.count(2) / len(row.runs), empty.count(1) / len(row.runs)
    published_on = (row.first.published_row or "").partition("/")[0]
    beside = published.get(f"{published_on}/{row.key}")
    tolerances = sorted({run.nsd_tolerance for run in row.runs if run.nsd_tolerance is not None})
    revisions = sorted({run.git_revision for run in row.runs})
    table.values.append(
        _identity(row)
        | values
        | {
            "percent_of_full_dsc": share,
            "is_reference": is_reference,
            "cases": len(row.by_case("dsc")),
            "cases_left_out": row.left_out,
            "both_empty": both,
            "one_empty": one,
            "nsd_tolerances": tolerances,
            "labels_used": row.method.labels_used,
            "chosen_on_validation": row.method.chosen_on_validation,
            "reveals_ground_truth": row.method.reveals_ground_truth,
            "published": beside,
            "git_revisions": revisions,
            "config_hash": row.first.config_hash,
            "environment": row.first.environment,
        }
    )
    interval = "-" if test is None else f"{test.mean_difference:+.2f} [{test.interval[0]:.2f}, {test.interval[1]:.2f}]"
    p_values = "-" if test is None else f"{_p(test.t_p_value)}, {_p(test.wilcoxon_p_value)}"
    table.rows.append(
        [
            row.first.dataset,
            ROWS[row.key],
            row.first.label,
            row.method.title,
            *cells,
            ", ".join(f"{value:g} {unit}" for value in tolerances for unit in row.units) or "-",
            _number(share, "{:.1f}"),
            "reference" if is_reference else interval,
            "reference" if is_reference else p_values,
            _cases(row),
            f"{both:g}",
            f"{one:g}",
            row.method.labels_in_words,
            _published(beside, published_on),
            ", ".join(str(run.seed) for run in row.runs),
            ", ".join(r[:8] + ("*" if r.endswith("-dirty") else "") for r in revisions),
            row.first.config_hash,
        ]
    )


def _cases(row: Row) -> str:
    count = len(row.by_case("dsc"))
    return f"{count} of {count + row.left_out}" if row.left_out else str(count)


def _share(values: dict[str, Any], reference: Row | None) -> float | None:
    own = values["metrics"]["dsc"]["mean"]
    full = None if reference is None else reference.summary("dsc")["mean"]
    return None if own is None or not full else 100 * own / full


def _test_values(test: PairedTest | None) -> dict[str, Any] | None:
    if test is None:
        return None
    return {
        "pairs": test.pairs,
        "mean_difference": test.mean_difference,
        "t_p": test.t_p_value,
        "wilcoxon_p": test.wilcoxon_p_value,
        "bootstrap_95": list(test.interval),
    }


def _spread(summary: dict[str, float | None]) -> str:
    text = _number(summary["mean"])
    text += f" ± {summary['std_cases']:.2f}" if summary["std_cases"] is not None else ""
    return text + (f" (± {summary['std_seeds']:.2f})" if summary["std_seeds"] is not None else "")


def _number(value: float | None, form: str = "{:.2f}") -> str:
    return "-" if value is None else form.format(value)


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _published(entry: dict[str, Any] | None, dataset: str) -> str:
    if entry is None:
        return "-"
    figures = ", ".join("{:.2f}±{:.2f}{}".format(*entry[name]) for name in ("iou", "dsc", "auc"))
    return f"{PUBLISHED_ON[dataset]}: {figures}"
