"""Table 1: cross-modal retrieval, mean and standard deviation over seeds, beside the published figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import yaml

from medzeroseg.tables.records import RunRecord
from medzeroseg.tables.statistics import McNemar, mcnemar
from medzeroseg.tables.writer import Table

REFERENCE_SUFFIX = "_cehnc"
"""The row that the others are tested against is `<dataset>_cehnc`, the main experiment of a dataset."""

_PUBLISHED = Path(__file__).with_name("published_table1.yaml")
_DIRECTIONS = {"i2t": "i→t", "t2i": "t→i"}
_TOP_K = (1, 2, 5, 10)
_PUBLISHED_KEYS = ("i2t_top1", "i2t_top2", "t2i_top1", "t2i_top2")
_SCREEN = ("Model", "Gallery", "i→t top-1", "i→t top-2", "t→i top-1", "t→i top-2", "p", "Train / test, min")
_NOTES = (
    "i→t, t→i: image to text, text to image. Gallery: how many test pairs each query is ranked among, all of them or "
    "shuffled batches of the size named (the protocol of the publication's peers). Chance of top-1 is one in that "
    "size. Pairs with the very same text are right answers of each other.",
    "p: exact paired McNemar test of top-1 in that gallery against the dataset's CEHNC row on the same cases, i→t / "
    "t→i; with several seeds the largest p of theirs.",
    "Published: figures of the publication (ROCO; BiomedCLIP or the model named; 1,000 test pairs), not measured here. "
    "It names no gallery; their height is plausible only in small ones, so they stand beside that row. DHN-NCE's are "
    "its authors' (arXiv 2403.20253, five runs, batches of 50).",
    "± is the sample standard deviation over seeds; a single figure is a single seed.",
)


@dataclass(frozen=True)
class _Gallery:
    name: str
    suffix: str  # of the keys of RunRecord.metrics
    columns: tuple[int, int]  # of RunRecord.ranks: image to text, text to image


def build_table1(records: Sequence[RunRecord]) -> Table:
    """Build Table 1 from finished runs.

    Two rows per experiment, one for each gallery: mean ± sample standard deviation over seeds in percent, the exact
    McNemar test against the `<dataset>_cehnc` row, seed by seed on the same test cases, and the published figures.

    Args:
        records: Finished runs, of any experiments and datasets.

    Returns:
        The table; without rows if there are no records.
    """
    published = yaml.safe_load(_PUBLISHED.read_text(encoding="utf-8"))
    ordered = sorted(records, key=lambda r: r.seed)
    columns = ["Dataset", "Model", "Gallery"]
    columns += [f"{arrow} top-{k}" for arrow in _DIRECTIONS.values() for k in _TOP_K]
    columns += [
        "p",
        "Published (i→t top-1, 2; t→i top-1, 2)",
        "Seeds",
        "Train / test, min",
        "Revision",
        "Config",
    ]
    table = Table(
        name="table1",
        caption="Table 1. Cross-modal retrieval, top-k recall in percent.",
        columns=columns,
        rows=[],
        notes=list(_NOTES),
        screen_columns=_SCREEN,
    )
    # Seeds of one configuration only: a run with other settings is another row, not another seed.
    ordered.sort(key=_row_key)
    for (dataset, *_), group in groupby(ordered, key=_row_key):
        runs = list(group)
        reference = [r for r in ordered if r.experiment == f"{dataset}{REFERENCE_SUFFIX}"]
        small = runs[0].small_gallery
        pairs = runs[0].test_pairs
        whole = _Gallery(f"all {pairs}", "", (0, 1))
        parts = _Gallery(f"of {min(small, pairs)}", f"_of{small}", (2, 3))
        for gallery in (whole, parts):
            _add_row(table, gallery, runs, reference, published.get(runs[0].published_row or "", {}))
    return table


def compare_top1(runs: Sequence[RunRecord], reference: Sequence[RunRecord], column: int) -> list[McNemar]:
    """McNemar tests of top-1, one per seed that both have, on exactly the same cases.

    Args:
        runs: The seeds of one experiment.
        reference: The seeds of the experiment that it is tested against.
        column: Which of a case's four ranks (`RunRecord.ranks`).

    Returns:
        A test per common seed; none where the test cases differ. Cases that are not ranked (0) are left out.
    """
    by_seed = {record.seed: record for record in reference}
    tests = []
    for run in runs:
        other = by_seed.get(run.seed)
        if other is None or other.ranks.keys() != run.ranks.keys():
            continue
        ranks = [(run.ranks[case][column], other.ranks[case][column]) for case in sorted(run.ranks)]
        ranked = [pair for pair in ranks if all(pair)]
        tests.append(mcnemar([ours == 1 for ours, _ in ranked], [theirs == 1 for _, theirs in ranked]))
    return tests


def _add_row(
    table: Table,
    gallery: _Gallery,
    runs: Sequence[RunRecord],
    reference: Sequence[RunRecord],
    published: dict[str, list[float | None]],
) -> None:
    first = runs[0]
    is_reference = bool(reference) and reference[0].experiment == first.experiment
    tests = [] if is_reference else [compare_top1(runs, reference, column) for column in gallery.columns]
    p_values = [max(test.p_value for test in both) for both in tests if both]
    keys = [f"{direction}_top{k}" for direction in _DIRECTIONS for k in _TOP_K]
    # an evaluator with other top_k leaves cells empty
    named = {key: f"{key}{gallery.suffix}" for key in keys}
    figures = {key: [run.metrics[name] for run in runs if name in run.metrics] for key, name in named.items()}
    beside = published if gallery.suffix else {}
    values: dict[str, Any] = {
        "dataset": first.dataset,
        "experiment": first.experiment,
        "label": first.label,
        "gallery": gallery.name,
        "seeds": [run.seed for run in runs],
        "metrics": figures,
        "mcnemar_p": dict(zip(_DIRECTIONS, p_values, strict=True)) if p_values else None,
        "published": beside or None,
        "fit_minutes": [run.fit_minutes for run in runs],
        "test_minutes": [run.test_minutes for run in runs],
        "git_revisions": sorted({run.git_revision for run in runs}),
        "config_hashes": sorted({run.config_hash for run in runs}),
        "environment": first.environment,
    }
    table.values.append(values)
    table.rows.append(
        [
            first.dataset,
            first.label,
            gallery.name,
            *(_spread(figure) for figure in figures.values()),
            "reference" if is_reference else " / ".join(map(_p, p_values)) or "-",
            ", ".join(_published(beside[key]) for key in _PUBLISHED_KEYS) if beside else "-",
            ", ".join(map(str, values["seeds"])),
            f"{fmean(values['fit_minutes']):.1f} / {fmean(values['test_minutes']):.1f}",
            ", ".join(r[:8] + ("*" if r.endswith("-dirty") else "") for r in values["git_revisions"]),
            ", ".join(values["config_hashes"]),
        ]
    )


def _row_key(record: RunRecord) -> tuple[str, str, str, int, int]:
    return record.dataset, record.experiment, record.config_hash, record.test_pairs, record.small_gallery


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{fmean(values):.2f}"
    return f"{mean} ± {stdev(values):.2f}" if len(values) > 1 else mean


def _published(entry: Sequence[float | None]) -> str:
    mean, std = entry
    return f"{mean:.2f}" + (f"±{std:.2f}" if std is not None else "")


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"
