"""Finds the files of a folder that fit patterns such as `images/{id}.nii.gz`, and their splits."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from data_modules.cases import SegmentationCase
from data_modules.folder_description import read_plain, split_lists
from data_modules.screening import hold_out, some
from data_modules.splits import Split
from medzeroseg.imaging import InputError


def list_files(root: Path) -> list[str]:
    """List the files below a folder as relative paths with `/`, sorted, and its folders with a `/` at the end.

    Hidden files and folders are left out: the slice cache is one.

    Raises:
        InputError: A folder may not be listed.
    """
    found: list[str] = []

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be listed ({error.strerror})") from error

    for top, folders, files in os.walk(root, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = Path(top).relative_to(root).as_posix()
        prefix = "" if below == "." else f"{below}/"
        found += [prefix + name for name in files if not name.startswith(".")]
        found += [f"{prefix}{name}/" for name in folders]
    return sorted(found)


def match_files(root: Path, names: Iterable[str], pattern: str) -> dict[str, Path]:
    """Find the files that fit a pattern.

    Args:
        root: The dataset's folder.
        names: Of `list_files`.
        pattern: `{id}` stands for the case within one folder name or file name, `*` for anything there.

    Returns:
        Case id to path, in the order of the ids.

    Raises:
        InputError: Two files have one id.
    """
    # The first {id} captures, further ones must repeat it.
    parts = [re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split("{id}")]
    expression = re.compile(parts[0] + "(?P<id>[^/]+?)" + "(?P=id)".join(parts[1:]))
    found: dict[str, Path] = {}
    for name in names:
        match = expression.fullmatch(name)
        if match is None:
            continue
        if match["id"] in found:
            raise InputError(
                f"{root}: {found[match['id']].relative_to(root)} and {name.rstrip('/')} are both case {match['id']}; "
                "ids must tell cases apart: rename or remove one"
            )
        found[match["id"]] = root / name
    return dict(sorted(found.items()))


def read_splits(path: Path, fold: int) -> dict[str, list[str]]:
    """Read a file of splits.

    Args:
        path: YAML or JSON with lists of ids under train, val, test; nnU-Net's splits_final.json, a list of such folds;
            or text, a line `id split` each.
        fold: Which fold of a list.

    Raises:
        InputError: It is missing, damaged or of another form, or the fold is not there.
    """
    if path.suffix.lower() not in (".json", ".yaml", ".yml"):
        try:
            lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from error
        lists: dict[str, list[str]] = {}
        for number, words in enumerate(lines, start=1):
            if len(words) < 2 or words[-1] not in ("train", "val", "test"):
                raise InputError(f"{path}: entry {number}: expected 'id train', 'id val' or 'id test'")
            lists.setdefault(words[-1], []).append(" ".join(words[:-1]))
        return split_lists(path, lists)
    values = read_plain(path)
    if isinstance(values, list):
        if not 0 <= fold < len(values):
            raise InputError(f"{path}: there is no fold {fold}; the file has {len(values)}, counted from 0")
        values = values[fold]
    return split_lists(path, values)


def split_by_lists(
    cases: Sequence[SegmentationCase], lists: Mapping[str, list[str]], split: Split, where: str
) -> list[SegmentationCase]:
    """Choose the cases that a list names, by their id or their patient.

    Raises:
        InputError: The list is not there, or names what is not in the folder.
    """
    if split not in lists:
        raise InputError(f"{where}: there is no list for the {split} split; it has {', '.join(lists)}")
    wanted = set(lists[split])
    absent = sorted(wanted - {case.case_id for case in cases} - {case.patient for case in cases})
    if absent:
        raise InputError(f"{where}: {len(absent):,} of the {split} split are not in the folder ({some(absent)})")
    return [case for case in cases if case.case_id in wanted or case.patient in wanted]


def split_by_hash(
    cases: Sequence[SegmentationCase], split: Split, val_share: float, test_share: float
) -> list[SegmentationCase]:
    """Choose the cases of a split by patient, by a rule that needs no stored list."""
    patients = {case.patient for case in cases}
    test = hold_out(patients, test_share, "folder/test")
    val = hold_out(patients - test, val_share, "folder/val")
    chosen = {"train": patients - test - val, "val": val, "test": test}[split]
    return [case for case in cases if case.patient in chosen]
