"""Checks one dataset: indexes its splits, reads every case, applies the rules."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from data_modules.base import SplitIndex
from data_modules.cases import SegmentationCase
from data_modules.check import caption_rules, label_rules, rules
from data_modules.check.checked import Checked, DataModule, OtherRoot
from data_modules.check.findings import Finding, SplitSummary, by_severity
from data_modules.check.reading import Case, CaseFacts, quiet_readers, read_all
from data_modules.splits import Split
from medzeroseg.imaging import InputError

SPLITS: tuple[Split, ...] = ("train", "val", "test")
RULES = (*rules.RULES, *label_rules.RULES, *caption_rules.RULES)

Progress = Callable[[int, int], None]
"""Called with the number of cases done and of all."""


def read_dataset(
    module: DataModule, splits: Sequence[Split], workers: int, on_progress: Progress, other: OtherRoot | None = None
) -> tuple[Checked, float]:
    """Index the splits of a dataset and read every case.

    Limits (`max_train_pairs`) are not applied: everything that is there is read.

    Args:
        module: The dataset's data module; its `setup` is not run.
        splits: Which splits.
        workers: Threads that read.
        on_progress: Told how far it is.
        other: Another dataset to compare with.

    Returns:
        What the rules judge, and the seconds that it took.
    """
    start = time.perf_counter()
    unusable: dict[Split, str] = {}
    left_out: dict[Split, Mapping[str, int]] = {}
    cases: list[tuple[Split, Case]] = []
    with quiet_readers():
        for split in splits:
            try:
                index = module.index_split(split)
            except InputError as error:
                unusable[split] = str(error)
                continue
            left_out[split] = index.skipped
            found: Sequence[Case] = index.records if isinstance(index, SplitIndex) else index.cases
            cases += [(split, case) for case in found]
        done = Counter[str]()

        def on_case() -> None:
            done["cases"] += 1
            on_progress(done["cases"], len(cases))

        on_progress(0, len(cases))
        facts = read_all(cases, workers, on_case)
    return Checked(module, unusable, left_out, facts, other), time.perf_counter() - start


def judge(checked: Checked) -> list[Finding]:
    """Apply every rule; errors come first."""
    return by_severity([finding for rule in RULES for finding in rule(checked)])


def summarise(checked: Checked) -> dict[str, SplitSummary]:
    """Sum up each split that could be indexed."""
    return {split: _summary(cases, checked.left_out[split]) for split, cases in checked.by_split.items()}


def holders_of_pixels(checked: Checked) -> dict[bytes, list[tuple[Split, str]]]:
    """List, for the hash of each image's pixels, the cases that have it."""
    holders: dict[bytes, list[tuple[Split, str]]] = {}
    for facts in checked.read:
        holders.setdefault(facts.pixels, []).append((facts.split, facts.case_id))
    return holders


def _summary(cases: list[CaseFacts], left_out: Mapping[str, int]) -> SplitSummary:
    labelled = [facts.case for facts in cases if isinstance(facts.case, SegmentationCase)]
    shapes = [facts.shape for facts in cases if facts.shape]
    spacings = [facts.spacing_mm for facts in cases if facts.spacing_mm]
    return SplitSummary(
        cases=len(cases),
        patients=len({case.patient for case in labelled}) if any(c.patient != c.case_id for c in labelled) else None,
        slices=sum(shape[0] for shape in shapes) if labelled else None,
        shapes=dict(Counter(shape[1:] for shape in shapes).most_common()),
        spacings_mm=(_each(min, spacings), _each(max, spacings)) if spacings else None,
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def _each(
    choose: Callable[[Sequence[float]], float], spacings: list[tuple[float, float, float]]
) -> tuple[float, float, float]:
    slices, rows, columns = zip(*spacings, strict=True)
    return choose(slices), choose(rows), choose(columns)
