"""Finds the cases of Synapse's multi-organ CT on disk: the raw form, and TransUNet's preprocessed one."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from data_modules.case_sources import ArrayFiles, VolumePair
from data_modules.cases import CaseSource
from data_modules.listing import list_folder
from data_modules.screening import some
from medzeroseg.imaging import InputError

Form = Literal["raw", "preprocessed"]

# The folders in which copies are unzipped, the owners' name for the whole first.
_RAW_TOPS = ("", "Training", "RawData/Training", "Abdomen/RawData/Training")
_PREPROCESSED_TOPS = ("", "Synapse", "data/Synapse")
_LIST_FOLDERS = ("lists_Synapse", "lists/lists_Synapse")

Found = dict[int, CaseSource]
"""Case number to what reads the case."""


def find_form(root: Path) -> tuple[Form, Path] | None:
    """Say in which form the set lies under a root, and in which folder; None when in neither.

    Raises:
        InputError: Both forms are there.
    """
    raw = next((root / top for top in _RAW_TOPS if (root / top / "img").is_dir()), None)
    ready = next(
        (
            root / top
            for top in _PREPROCESSED_TOPS
            if (root / top / "train_npz").is_dir() or (root / top / "test_vol_h5").is_dir()
        ),
        None,
    )
    if raw is not None and ready is not None:
        raise InputError(f"{root}: holds the raw form ({raw}) and the preprocessed one ({ready}); name one as root")
    if raw is not None:
        return "raw", raw
    return None if ready is None else ("preprocessed", ready)


def find_raw(folder: Path, skipped: Counter[str]) -> Found:
    """List `img/img0001.nii.gz` and `label/label0001.nii.gz`.

    Raises:
        InputError: A folder cannot be listed, or two files have one number.
    """
    images = _numbered(folder / "img", r"img(\d{4})\.nii(?:\.gz)?")
    labels = _numbered(folder / "label", r"label(\d{4})\.nii(?:\.gz)?") if (folder / "label").is_dir() else {}
    skipped["label maps without a scan"] += len(labels.keys() - images.keys())
    return {number: VolumePair(path, labels.get(number), view="axial") for number, path in sorted(images.items())}


def find_preprocessed(folder: Path, root: Path, skipped: Counter[str]) -> Found:
    """List `train_npz/case0005_slice000.npz`, one stack a case, and `test_vol_h5/case0001.npy.h5`.

    Where TransUNet's lists are there (`lists_Synapse/train.txt`, `test_vol.txt`, names without an ending), what they
    do not name is left out.

    Args:
        folder: Holds `train_npz` and `test_vol_h5`, or one of them.
        root: Where the lists are looked for, beside `folder`.
        skipped: Gets the number of files that the lists do not name, and of gaps in stacks.

    Raises:
        InputError: A file has no name of this form or is listed and not there, or a case is stored twice.
    """
    slices = _files(folder / "train_npz", r"case(\d{4})_slice(\d+)\.npz")
    volumes = _files(folder / "test_vol_h5", r"case(\d{4})(?:\.npy)?\.h5")
    slices = _listed(slices, "train.txt", folder / "train_npz", (folder, root), skipped)
    volumes = _listed(volumes, "test_vol.txt", folder / "test_vol_h5", (folder, root), skipped)
    stacks: dict[int, dict[int, Path]] = {}
    for case, (path, match) in ((int(item[1][1]), item) for item in slices.values()):
        stacks.setdefault(case, {})[int(match[2])] = path
    found: Found = {}
    for number, stack in stacks.items():
        # By number: as text, slice 1000 would come before slice 999.
        order = sorted(stack)
        skipped["slices missing inside a volume"] += order[-1] - order[0] + 1 - len(order)
        found[number] = ArrayFiles(tuple(stack[index] for index in order))
    for path, match in volumes.values():
        number = int(match[1])
        if number in found:
            raise InputError(f"{path}: case {number:04d} is stored twice, here and in {found[number].files[0]}")
        found[number] = ArrayFiles((path,))
    return dict(sorted(found.items()))


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    return {int(match[1]): path for path, match in _files(folder, pattern).values()}


def _files(folder: Path, pattern: str) -> dict[str, tuple[Path, re.Match[str]]]:
    """Give the files of a folder whose whole name fits, by name without the form's endings; {} without the folder."""
    if not folder.exists():
        return {}
    found: dict[str, tuple[Path, re.Match[str]]] = {}
    for name in list_folder(folder):
        match = re.fullmatch(pattern, name, re.IGNORECASE)
        if match is None:
            continue
        bare = _bare(name)
        if bare in found:
            raise InputError(f"{folder}: {found[bare][0].name} and {name} are one case; remove one")
        found[bare] = (folder / name, match)
    return found


def _bare(name: str) -> str:
    return name.split(".")[0]


def _listed(
    files: dict[str, tuple[Path, re.Match[str]]],
    list_name: str,
    folder: Path,
    places: Iterable[Path],
    skipped: Counter[str],
) -> dict[str, tuple[Path, re.Match[str]]]:
    candidates = [place / lists / list_name for place in places for lists in _LIST_FOLDERS]
    listed_in = next((path for path in candidates if path.is_file()), None)
    if listed_in is None or not files:
        return files
    try:
        names = [_bare(line.strip()) for line in listed_in.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{listed_in}: cannot be read ({error})") from error
    absent = [name for name in names if name not in files]
    if absent:
        raise InputError(
            f"{listed_in}: names {len(absent):,} of {len(names):,} that are not in {folder} ({some(absent)}); "
            "fetch them, or remove the list to use what is there"
        )
    skipped[f"files not in {list_name}"] += len(files.keys() - set(names))
    return {name: files[name] for name in dict.fromkeys(names)}
