"""Rules for every dataset: splits, files that cannot be read, ids, patients, copies."""

from collections.abc import Iterator
from itertools import takewhile

from data_modules.cases import SegmentationCase
from data_modules.check.checked import Checked, Rule, about, groups, plural, where
from data_modules.check.findings import Finding, Severity
from data_modules.check.reading import CaseFacts


def splits_can_be_indexed(checked: Checked) -> Iterator[Finding]:
    """Every split must be there and hold something."""
    reasons = list(checked.unusable.values())
    if reasons:
        # Where several splits are missing, how to get the dataset is told once.
        end = _common_end(reasons) if len(reasons) > 1 else ""
        lines = [f"{split}: {reason.removesuffix(end).rstrip()}" for split, reason in checked.unusable.items()]
        message = f"{plural(len(lines), 'split')} cannot be used"
        yield Finding("error", "split_unusable", message, details=(*lines, *([end] if end else [])))
    for split, cases in checked.by_split.items():
        if not cases:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in checked.left_out[split].items() if count)
            left_out = f" (left out: {counts})" if counts else ""
            yield Finding("error", "split_empty", f"the {split} split holds no {checked.module.unit}{left_out}")


def nothing_is_left_out(checked: Checked) -> Iterator[Finding]:
    """What a data module passes over is told."""
    for split, reasons in checked.left_out.items():
        for reason, count in reasons.items():
            if count:
                yield Finding("warning", "left_out", f"{split}: left out {count:,} {reason}")


def files_can_be_read(checked: Checked) -> Iterator[Finding]:
    """Every case must be decodable; where the data module passes over those that are not, that is a warning."""
    refused = [facts for facts in checked.facts if facts.refused is not None]
    if not refused:
        return
    stops = checked.module.corrupt == "error"
    advice = "training would stop there; mend them, or leave them out with corrupt=skip" if stops else "left out"
    yield Finding(
        "error" if stops else "warning",
        "case_unusable",
        f"{plural(len(refused), 'case')} cannot be used ({advice})",
        tuple(facts.case_id for facts in refused),
        tuple(f"{where(facts)}: {facts.refused}" for facts in refused),
    )


def ids_tell_cases_apart(checked: Checked) -> Iterator[Finding]:
    """No two cases may have one id: tables and maps are filed under it."""
    for split, cases in checked.by_split.items():
        for case_id, same in groups(cases, lambda facts: facts.case_id).items():
            if len(same) > 1:
                message = f"{split}: {len(same)} cases have the id {case_id}; rename the files or remove the copies"
                yield Finding("error", "id_repeated", message, (case_id,))


def patients_are_in_one_split(checked: Checked) -> Iterator[Finding]:
    """No patient may be in two splits: the scores would be of no worth."""
    of_patient = groups(
        (facts for facts in checked.facts if isinstance(facts.case, SegmentationCase)),
        lambda facts: facts.case.patient if isinstance(facts.case, SegmentationCase) else None,
    )
    for patient, cases in of_patient.items():
        splits = sorted({facts.split for facts in cases})
        if len(splits) > 1:
            message = f"patient {patient} is in the splits {' and '.join(splits)}; split by patient"
            yield about("error", "patient_in_two_splits", message, cases)


def images_are_no_copies(checked: Checked) -> Iterator[Finding]:
    """The same pixels twice: across splits an error, within a split worth a look."""
    across: list[list[CaseFacts]] = []
    within: list[list[CaseFacts]] = []
    # An image of one grey level is a finding of its own; all of them would be copies of each other.
    for same in groups((f for f in checked.read if not f.constant), lambda facts: facts.pixels).values():
        if len(same) > 1:
            (across if len({facts.split for facts in same}) > 1 else within).append(same)
    if across:
        yield _copies(
            "error",
            "copy_across_splits",
            across,
            "have equal pixels in two splits: scores on them are of no worth; keep one of each",
        )
    if within:
        yield _copies("warning", "copy_within_split", within, "have equal pixels within a split")


def images_are_not_blank(checked: Checked) -> Iterator[Finding]:
    """An image of one grey level shows nothing."""
    blank = [facts for facts in checked.read if facts.constant]
    if blank:
        yield about("warning", "image_blank", f"{plural(len(blank), 'image')} of one grey level", blank)


def images_are_not_in_the_other_root(checked: Checked) -> Iterator[Finding]:
    """Images that the other dataset has, too; an error where one trains on what the other tests on."""
    if checked.other is None:
        return
    harmful: list[tuple[CaseFacts, str]] = []
    harmless: list[tuple[CaseFacts, str]] = []
    for facts in checked.read:
        for split, case_id in () if facts.constant else checked.other.holders.get(facts.pixels, ()):
            line = f"{where(facts)} is {split}/{case_id} of {checked.other.name}"
            trains = [facts.split == "train", split == "train"]
            (harmful if sum(trains) == 1 else harmless).append((facts, line))
    roles: tuple[tuple[list[tuple[CaseFacts, str]], Severity, str], ...] = (
        (harmful, "error", "one trains where the other evaluates: never train on the one and test on the other"),
        (harmless, "warning", "in the same role"),
    )
    for found, severity, advice in roles:
        if found:
            yield Finding(
                severity,
                "copy_in_other_root",
                f"{plural(len(found), 'image')} with equal pixels in {checked.other.name}, {advice}",
                tuple(facts.case_id for facts, _ in found),
                tuple(line for _, line in found),
            )


def _common_end(texts: list[str]) -> str:
    """The whole sentences with which all texts end."""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*(reversed(text) for text in texts), strict=False))
    return "".join(letters[0] for letters in alike)[::-1].partition(". ")[2]


def _copies(severity: Severity, code: str, found: list[list[CaseFacts]], message: str) -> Finding:
    cases = [facts for same in found for facts in same]
    return Finding(
        severity,
        code,
        f"{plural(len(cases), 'image')} in {plural(len(found), 'group')} {message}",
        tuple(facts.case_id for facts in cases),
        tuple(" = ".join(map(where, same)) for same in found),
    )


RULES: tuple[Rule, ...] = (
    splits_can_be_indexed,
    files_can_be_read,
    ids_tell_cases_apart,
    patients_are_in_one_split,
    images_are_no_copies,
    images_are_not_in_the_other_root,
    images_are_not_blank,
    nothing_is_left_out,
)
