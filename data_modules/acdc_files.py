"""Finds ACDC's cases on disk: the challenge's NIfTI folders, and SSL4MIS's HDF5 form."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data_modules.case_sources import ArrayFiles, VolumePair
from data_modules.cases import SegmentationCase
from data_modules.listing import join, list_folder
from data_modules.screening import some
from medzeroseg.imaging import InputError

Form = Literal["nifti", "h5"]
PHASES = {"ED": "end-diastole", "ES": "end-systole"}
GAPS = "slices missing inside a volume"

# Copies are unzipped under any of these.
_TOPS = ("", "database", "ACDC", "ACDC/database", "data/ACDC")
_LISTS = ("train_slices.list", "val.list", "test.list")
_H5_NAME = re.compile(r"(patient\d+)_(frame\d+)(?:_slice_(\d+))?(?:\.h5)?")
# SSL4MIS numbers a patient's two frames anew, end-diastole first.
_H5_PHASES = {"frame01": PHASES["ED"], "frame02": PHASES["ES"]}


@dataclass(frozen=True, slots=True)
class PatientFacts:
    """What `Info.cfg` says of a patient.

    Attributes:
        frames: "ED" and "ES" to the frame's number, counted from 1.
        group: The diagnosis: NOR, MINF, DCM, HCM or RV; None where it is not given.
    """

    frames: dict[str, int]
    group: str | None


def find_form(root: Path) -> tuple[Form, Path] | None:
    """Say in which form the set lies under a root, and in which folder; None when in neither.

    Raises:
        InputError: Both forms are there.
    """
    tops = [join(root, top) for top in _TOPS]
    nifti = next((top for top in tops if (top / "training").is_dir()), None)
    h5 = next((top for top in tops if any((top / name).is_file() for name in _LISTS)), None)
    if nifti is not None and h5 is not None:
        raise InputError(
            f"{root}: holds the challenge's form ({nifti}) and the h5 form ({h5}); give one of them as root"
        )
    if nifti is not None:
        return "nifti", nifti
    return None if h5 is None else ("h5", h5)


def find_nifti(folder: Path, skipped: Counter[str], *, skip_missing: bool) -> list[SegmentationCase]:
    """List end-diastole and end-systole of the patients in `training` or `testing`, by the frames of `Info.cfg`.

    The cine (`_4d`) is never used: it has no labels.

    Args:
        folder: `training` or `testing`.
        skipped: Gets the number of frames without an image.
        skip_missing: Leave out frames without an image instead of raising.

    Raises:
        InputError: A folder cannot be listed, an `Info.cfg` is missing or damaged, or an image is missing.
    """
    cases = []
    for patient in list_folder(folder):
        if not re.fullmatch(r"patient\d+", patient) or not (folder / patient).is_dir():
            continue
        names = set(list_folder(folder / patient))
        facts = read_info(folder / patient / "Info.cfg")
        for phase, number in facts.frames.items():
            case_id = f"{patient}_frame{number:02d}"
            image, label = (_zipped_or_not(names, f"{case_id}{ending}") for ending in ("", "_gt"))
            if image is None and skip_missing:
                skipped["frames without an image"] += 1
                continue
            if image is None:
                raise InputError(
                    f"{folder / patient}: there is no {case_id}.nii.gz, though Info.cfg names frame {number} as "
                    f"{phase}; unzip the patient again, or leave it out with corrupt=skip"
                )
            source = VolumePair(folder / patient / image, None if label is None else folder / patient / label)
            told = {"phase": PHASES[phase]} | ({} if facts.group is None else {"group": facts.group})
            cases.append(SegmentationCase(case_id, patient, source, told))
    return cases


def read_info(path: Path) -> PatientFacts:
    """Read an `Info.cfg`: `key: value` lines without a section.

    Raises:
        InputError: It is missing, or gives no frame number for ED or ES.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); it tells which frames are ED and ES") from error
    values = {key.strip(): value.strip() for key, colon, value in (line.partition(":") for line in lines) if colon}
    frames = {}
    for phase in PHASES:
        number = values.get(phase, "")
        if not number.isdecimal() or int(number) < 1:
            raise InputError(f"{path}: expected a line '{phase}: <frame number>', found {number or 'none'}")
        frames[phase] = int(number)
    return PatientFacts(frames, values.get("Group") or None)


def find_h5(folder: Path, skipped: Counter[str]) -> list[SegmentationCase]:
    """List the cases of the h5 form by what is in `data` and `data/slices`, by patient and frame.

    A whole volume is used where there is one, else its slices.
    """
    names = list_folder(folder / "data")
    slices = folder / "data" / "slices"
    names += list_folder(slices) if slices.is_dir() else []
    return h5_cases(folder, [name for name in names if _H5_NAME.fullmatch(name)], skipped)


def h5_cases(folder: Path, names: Iterable[str], skipped: Counter[str]) -> list[SegmentationCase]:
    """Put named volumes and slices together into cases.

    Args:
        folder: The set's folder.
        names: `patient028_frame01` or `patient001_frame01_slice_1`, with or without `.h5`.
        skipped: Gets the number of gaps in the slices.

    Raises:
        InputError: A name is of another form, or its file is missing.
    """
    volumes: dict[tuple[str, str], Path] = {}
    slices: dict[tuple[str, str], dict[int, Path]] = {}
    absent = []
    for name in names:
        match = _H5_NAME.fullmatch(name)
        if match is None:
            raise InputError(
                f"{folder}: '{name}' is no name of the SSL4MIS form, like patient028_frame01 or "
                "patient003_frame01_slice_1"
            )
        file = f"{name.removesuffix('.h5')}.h5"
        path = next((at for at in (folder / "data" / "slices" / file, folder / "data" / file) if at.is_file()), None)
        if path is None:
            absent.append(file)
        elif match[3] is None:
            volumes[match[1], match[2]] = path
        else:
            slices.setdefault((match[1], match[2]), {})[int(match[3])] = path
    if absent:
        raise InputError(f"{folder / 'data'}: {len(absent):,} listed file(s) are missing ({some(absent)}); fetch them")
    cases = []
    for patient, frame in sorted(volumes.keys() | slices.keys()):
        paths: tuple[Path, ...]
        if (patient, frame) in volumes:
            paths = (volumes[patient, frame],)
        else:
            stack = slices[patient, frame]
            order = sorted(stack)  # by number: as text, slice 10 would come before slice 2
            skipped[GAPS] += order[-1] - order[0] + 1 - len(order)
            paths = tuple(stack[number] for number in order)
        facts = {"phase": _H5_PHASES[frame]} if frame in _H5_PHASES else {}
        cases.append(SegmentationCase(f"{patient}_{frame}", patient, ArrayFiles(paths), facts))
    return cases


def _zipped_or_not(names: set[str], stem: str) -> str | None:
    return next((name for name in (f"{stem}.nii.gz", f"{stem}.nii") if name in names), None)
