"""From columns and cases to the panels of Figures 4 to 6 and of the saliency sheets."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from medzeroseg.figures.columns import Column, Layout, choose_cases
from medzeroseg.figures.drawing import Panel, Sheet, scale_bar
from medzeroseg.figures.kept_slices import UNKNOWN, KeptSlice, KeptSlices, reference_masks, slice_dsc
from medzeroseg.tables.segmentation_records import scores_of

SLICE_RULE = "the slice whose reference outlines most pixels"


@dataclass(frozen=True)
class Composed:
    """A figure that can be drawn.

    Attributes:
        name: Stem of its files.
        sheet: What is drawn.
        values: Caption, rule, cases, scores and runs, for the JSON beside it.
    """

    name: str
    sheet: Sheet
    values: dict[str, Any]


def compose_figure(number: str, dataset: str, columns: Sequence[Column], layout: Layout) -> Composed | None:
    """Figure 4, 5 or 6 of a dataset.

    Args:
        number: `figure4`, ...
        dataset: The dataset.
        columns: As `fill_columns` found them.
        layout: The rules.

    Returns:
        None where the run by which cases are chosen has not been made, or no case is in all columns.
    """
    cases, left_out = drawable_cases(columns)
    [chooser] = [column for column in columns if column.rule.role == layout.cases_by]
    if not chooser.filled or chooser.kept is None:
        return None
    chosen = choose_cases(chooser.scores, cases)
    if not chosen:
        return None
    kept = chooser.kept
    rows, sides, panels_values = [], [], []
    for rank, case in chosen.items():
        one = kept.by_case[case]
        sides.append(_side(rank, one))
        scored = [_scored_panel(column, case) for column in columns]
        rows.append([_image_panel(one), _masks_panel(one, reference_masks(one.reference, kept.structures)), *scored])
        of_columns = {c.rule.role: _dsc_values(c, case) for c in columns if c.filled}
        panels_values.append({"rank": rank, "case_id": case, "slice": one.index + 1, "slices": one.depth} | of_columns)
    rule = (
        f"Rows: best, median and worst case by the DSC of {chooser.rule.title} (mean over structures), among the "
        f"{len(cases)} test cases that all columns have; of a volume {SLICE_RULE}."
    )
    caption = " ".join(
        [
            f"{number.capitalize().replace('Figure', 'Figure ')}. {dataset}: segmentation side by side.",
            rule,
            "Below each panel: DSC in percent of the case"
            + (" (of the slice shown)." if any(one.depth > 1 for one in kept.slices) else "."),
            *([f"{left_out} cases are missing in some column and were not among them."] if left_out else []),
            *(_kept_note(kept, chooser)),
            *map(_described, columns),
        ]
    )
    structures = list(kept.structures)
    sheet = Sheet(["image", "ground truth", *map(_head, columns)], sides, rows, structures, caption)
    values = {
        "name": f"{number}_{dataset}",
        "dataset": dataset,
        "caption": caption,
        "rule": rule,
        "cases": panels_values,
        "columns": [column.provenance for column in columns],
    }
    return Composed(f"{number}_{dataset}", sheet, values)


def compose_saliency(dataset: str, column: Column, case: str) -> Composed | None:
    """The saliency of one case: methods below one another, prompts side by side.

    Args:
        dataset: The dataset.
        column: Of a zero-shot run.
        case: The case.

    Returns:
        None where the run has no saliency.
    """
    kept, record = column.kept, column.record
    if kept is None or record is None or case not in kept.by_case or not kept.by_case[case].maps:
        return None
    one = kept.by_case[case]
    reference = reference_masks(one.reference, kept.structures)
    aucs = {(s.method, s.structure): s.auc for s in record.scores if s.case_id == case}
    rows, sides = [], []
    drawn: list[str] = []
    for method in record.methods:
        saliency = one.maps[method.method]
        same = [other for other in drawn if np.array_equal(one.maps[other], saliency)]
        if same:
            continue  # rows that only differ behind the saliency
        drawn.append(method.method)
        sides.append("\n".join(_wrapped(method.title + (" (baseline)" if method.baseline else ""), 15)))
        panels = []
        for n, name in enumerate(kept.structures):
            auc = aucs[method.method, name]
            foot = "structure absent" if math.isnan(auc) else f"AUC {100 * auc:.1f}"
            panels.append(Panel(one.image, heat=saliency[n], outlined=reference[n], stretch=_stretch(one), foot=foot))
        rows.append([_image_panel(one), *panels])
    caption = (
        f"{dataset}: saliency of {record.label} (seed {record.seed}) by method and prompt; case {case}, the median of "
        f"the figure, {SLICE_RULE} ({one.index + 1} of {one.depth}). One scale from 0 to 1 for a case and prompt, "
        "dark to bright; the reference is outlined in white. AUC: pixel ROC in percent over the whole case, 50 is "
        "chance. Methods with the same map are shown once."
    )
    role = column.rule.role
    name = f"saliency_{dataset}" + ("" if role == "medzeroseg" else f"_{role}")
    sheet = Sheet(["image", *kept.structures], sides, rows, [], caption, cell=1.2)
    values = {"name": name, "dataset": dataset, "caption": caption, "case_id": case, "columns": [column.provenance]}
    return Composed(name, sheet, values)


def drawable_cases(columns: Sequence[Column]) -> tuple[list[str], int]:
    """The cases that all filled columns have, and how many some lack."""
    kept = [column.kept.by_case for column in columns if column.kept is not None]
    cases = [case for case in kept[0] if all(case in other for other in kept)] if kept else []
    return cases, len({case for one in kept for case in one}) - len(cases)


def _head(column: Column) -> str:
    if column.record is None:
        return column.rule.title
    named = column.rule.title.casefold() in column.record.label.casefold()
    return column.record.label if named else f"{column.rule.title}\n{column.record.label}"


def _described(column: Column) -> str:
    if column.record is None or column.method is None or not column.filled:
        return f"{column.rule.title}: {column.problem}."
    return f"{column.rule.title}: {column.record.label}; {column.method.title}; seed {column.record.seed}."


def _kept_note(kept: KeptSlices, column: Column) -> list[str]:
    if len(kept.slices) == kept.cases:
        return []
    return [f"{column.rule.title} kept slices of {len(kept.slices)} of its {kept.cases} cases, evenly spaced."]


def _side(rank: str, one: KeptSlice) -> str:
    name = "\n".join(_wrapped(one.case_id, 16))
    return f"{rank}\n{name}" + (f"\nslice {one.index + 1} of {one.depth}" if one.depth > 1 else "")


def _wrapped(text: str, width: int) -> list[str]:
    """Also within names without spaces, as files have."""
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += (" " if lines[-1] else "") + word
    return [line[start : start + width] for line in lines for start in range(0, len(line), width)]


def _stretch(one: KeptSlice) -> float:
    return 1.0 if one.spacing_mm is None else one.spacing_mm[0] / one.spacing_mm[1]


def _image_panel(one: KeptSlice) -> Panel:
    column_mm = None if one.spacing_mm is None else one.spacing_mm[1]
    return Panel(one.image, stretch=_stretch(one), bar=scale_bar(one.image.shape[1], column_mm))


def _masks_panel(one: KeptSlice, masks: Any, foot: str = "") -> Panel:  # noqa: ANN401 - (P, H, W) bool
    return Panel(one.image, dict(enumerate(masks)), stretch=_stretch(one), foot=foot)


def _scored_panel(column: Column, case: str) -> Panel:
    if column.kept is None or column.method is None:
        return Panel(None, note=column.problem)
    one = column.kept.by_case[case]
    values = _dsc_values(column, case)
    foot = "DSC -" if values["dsc"] is None else f"DSC {100 * values['dsc']:.1f}"
    if one.depth > 1 and values["slice_dsc"] is not None:
        foot += f" (slice {100 * values['slice_dsc']:.1f})"
    return _masks_panel(one, one.masks[column.method.method], foot)


def _dsc_values(column: Column, case: str) -> dict[str, Any]:
    assert column.kept is not None
    assert column.record is not None
    assert column.method is not None
    one, method = column.kept.by_case[case], column.method.method
    known = one.reference != UNKNOWN
    pairs = zip(one.masks[method], reference_masks(one.reference, column.kept.structures), strict=True)
    of_slice = [value for value in (slice_dsc(*pair, known) for pair in pairs) if not math.isnan(value)]
    of_case = {s.structure: s.dsc for s in scores_of(column.record.scores, method) if s.case_id == case}
    return {
        "dsc": None if math.isnan(column.scores[case]) else column.scores[case],
        "slice_dsc": sum(of_slice) / len(of_slice) if of_slice else None,
        "structures": {name: None if math.isnan(value) else value for name, value in of_case.items()},
    }
