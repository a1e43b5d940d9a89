"""Rules for labelled datasets: references, label ids, empty masks, spacing."""

from collections.abc import Iterator

from data_modules.cases import BACKGROUND, IGNORE
from data_modules.check.checked import Checked, Rule, about, plural, where
from data_modules.check.findings import Finding, LabelSummary
from data_modules.check.reading import CaseFacts
from data_modules.segmentation import SegmentationDataModule

# Finer than any scanner in clinical use, and coarser than the thickest slices of cardiac MR.
SPACING_MM = (0.05, 20.0)


def cases_have_a_reference(checked: Checked) -> Iterator[Finding]:
    """A case without a mask can neither train nor be scored."""
    if not isinstance(checked.module, SegmentationDataModule):
        return
    without = [facts for facts in checked.read if facts.voxels_of_label is None]
    if without:
        stops = checked.module.missing_reference == "error"
        advice = "add the masks, or leave the cases out with missing_reference=skip" if stops else "left out"
        message = f"{plural(len(without), 'case')} without a mask ({advice})"
        yield about("error" if stops else "warning", "mask_missing", message, without)


def labels_are_the_datasets(checked: Checked) -> Iterator[Finding]:
    """A mask may hold the dataset's label ids and no other."""
    if not isinstance(checked.module, SegmentationDataModule) or not checked.read:
        return
    known = checked.module.label_names.keys() | {BACKGROUND, IGNORE}
    strange = [(facts, sorted(facts.voxels_of_label.keys() - known)) for facts in checked.read if facts.voxels_of_label]
    found = [(facts, labels) for facts, labels in strange if labels]
    if found:
        names = ", ".join(f"{label} {name}" for label, name in checked.module.label_names.items())
        yield Finding(
            "error",
            "label_unknown",
            f"{plural(len(found), 'mask')} with label ids that the dataset does not have; it has {names}",
            tuple(facts.case_id for facts, _ in found),
            tuple(f"{where(facts)}: {_listed(labels)}" for facts, labels in found),
        )


def masks_show_something(checked: Checked) -> Iterator[Finding]:
    """A mask without a structure is lawful (a lung without infection), but may also be a lost one."""
    for split, cases in checked.by_split.items():
        masks = [facts for facts in cases if facts.voxels_of_label is not None]
        empty = [facts for facts in masks if not _structures(facts)]
        if empty:
            message = f"{split}: {len(empty):,} of {plural(len(masks), 'mask')} outline nothing"
            yield about("warning", "mask_empty", message, empty)


def labels_occur_in_training(checked: Checked) -> Iterator[Finding]:
    """A structure that no training case shows cannot be learnt, and one that no test case shows not be scored."""
    for split in ("train", "test"):
        cases = [facts for facts in checked.by_split.get(split, []) if facts.voxels_of_label is not None]
        absent = [label.name for label in label_summaries(checked) if not label.cases.get(split)] if cases else []
        if absent:
            yield Finding("warning", "label_absent", f"no {split} case shows: {', '.join(absent)}")


def spacings_are_plausible(checked: Checked) -> Iterator[Finding]:
    """The spacing gives millimetres to surface distances."""
    if not isinstance(checked.module, SegmentationDataModule):
        return
    lost = [facts for facts in checked.read if facts.spacing_mm is None]
    if lost and not checked.module.pictures:
        message = f"{plural(len(lost), 'case')} without spacing: their surface distances are in pixels, not mm"
        yield about("info", "spacing_lost", message, lost)
    low, high = SPACING_MM
    odd = [facts for facts in checked.read if facts.spacing_mm and not all(low <= s <= high for s in facts.spacing_mm)]
    if odd:
        yield Finding(
            "warning",
            "spacing_odd",
            f"{plural(len(odd), 'case')} with a spacing outside {low} to {high} mm",
            tuple(facts.case_id for facts in odd),
            tuple(f"{where(facts)}: {_mm(facts.spacing_mm or ())}" for facts in odd),
        )


def label_summaries(checked: Checked) -> list[LabelSummary]:
    """Count, for each label, the cases that show it and its share of their voxels."""
    # A dataset of which nothing can be indexed may not even know its labels.
    if not isinstance(checked.module, SegmentationDataModule) or not checked.by_split:
        return []
    summaries = []
    for label, name in checked.module.label_names.items():
        cases: dict[str, int] = {}
        voxels = total = 0
        for split, found in checked.by_split.items():
            showing = [facts.voxels_of_label for facts in found if (facts.voxels_of_label or {}).get(label)]
            cases[split] = len(showing)
            voxels += sum(counts[label] for counts in showing if counts)
            total += sum(sum(counts.values()) for counts in showing if counts)
        summaries.append(LabelSummary(label, name, cases, voxels / total if total else 0.0))
    return summaries


def _structures(facts: CaseFacts) -> set[int]:
    return (facts.voxels_of_label or {}).keys() - {BACKGROUND, IGNORE}


def _listed(labels: list[int]) -> str:
    return ", ".join(map(str, labels[:8])) + (f" and {len(labels) - 8} more" if len(labels) > 8 else "")


def _mm(spacing: tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in spacing) + " mm"


RULES: tuple[Rule, ...] = (
    cases_have_a_reference,
    labels_are_the_datasets,
    masks_show_something,
    labels_occur_in_training,
    spacings_are_plausible,
)
