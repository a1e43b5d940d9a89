"""Finds the images of each labelled real set, its split by patient, and a caption from the labels."""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path

import numpy as np

from data_modules.base import Split
from data_modules.captions_cardiac import LEFT_VENTRICLE, MYOCARDIUM, cardiac_caption, cardiac_facts
from data_modules.captions_chest import DIAGNOSES, Diagnosis, chest_caption, chest_facts
from data_modules.captions_ct import CtFacts, ct_caption, ct_facts
from data_modules.label_measures import Mask, bucket
from data_modules.label_sources import (
    H5Slice,
    NiftiSlice,
    StretchedPicture,
    axial_slice,
    read_h5,
    read_mask,
    read_nifti,
)
from data_modules.pairs import ImageSource, PictureFile, stable_hash
from medzeroseg.imaging import ABDOMEN_WINDOW_HU, InputError

NO_STRUCTURE = "slices in which nothing is outlined"


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image of a labelled set.

    Attributes:
        case_id: The set's name and the image's public id.
        patient: The set's name and the patient's public id; a patient is in one split only.
        source: Reads the picture.
        caption: Reads the labels and words a caption; None when the labels show nothing.
    """

    case_id: str
    patient: str
    source: ImageSource
    caption: Callable[[random.Random], str | None]


SetFinder = Callable[[Path, Split, Counter[str]], list[LabelledImage]]
"""(folder of the set, split, counts of what is left out and why) to the images of the split."""


def hold_out(patients: Iterable[str], share: float, name: str) -> set[str]:
    """Choose patients to keep out of training, by a rule that needs no stored list.

    A patient's number is the hash of the set's name and the patient's id; the lowest share is held out, one
    at least.
    """
    ordered = sorted(set(patients), key=lambda patient: (stable_hash(f"{name}/{patient}"), patient))
    return set(ordered[: ceil(share * len(ordered))])


def find_acdc_h5(folder: Path, split: Split, skipped: Counter[str]) -> list[LabelledImage]:
    """Find ACDC's slices in the SSL4MIS form; a fifth of the training patients is the validation split.

    Raises:
        InputError: A list or a listed file is missing, a name is not understood, or a patient is in both
        lists.
    """
    train = [_acdc_name(folder, name, r"_slice_(\d+)") for name in _read_list(folder / "train_slices.list")]
    test = [_acdc_name(folder, name, "()") for name in _read_list(folder / "test.list")]
    both = {patient for patient, *_ in train} & {patient for patient, *_ in test}
    if both:
        raise InputError(f"{folder}: {', '.join(sorted(both))} in train_slices.list and in test.list")
    slices: list[tuple[str, str, int, int, H5Slice]] = []
    if split == "test":
        for patient, frame, _, path in test:
            count = len(read_h5(path)["label"])
            slices += [(patient, frame, i, count, H5Slice(path, i)) for i in range(count)]
    else:
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for patient, frame, number, _ in train:
            counts[patient, frame] = max(counts[patient, frame], number)
        validation = hold_out((patient for patient, *_ in train), 0.2, "acdc_h5")
        for patient, frame, number, path in sorted(train, key=lambda item: item[:3]):
            if (patient in validation) == (split == "val"):
                slices.append((patient, frame, number - 1, counts[patient, frame], H5Slice(path)))
    images = []
    for patient, frame, index, count, source in slices:
        # The SSL4MIS form numbers the frames: the first is end-diastole. Slices run from base to apex.
        phase = "end-diastole" if frame == "frame01" else "end-systole"
        level = bucket((index + 0.5) / count, (1 / 3, 2 / 3), ("basal", "mid-ventricular", "apical"))
        caption = partial(_acdc_caption, source, phase, level)
        case_id = f"acdc_h5/{patient}_{frame}_slice_{index + 1:02d}"
        images.append(LabelledImage(case_id, f"acdc_h5/{patient}", source, caption))
    return images


def _acdc_caption(source: H5Slice, phase: str, level: str, rng: random.Random) -> str | None:
    facts = cardiac_facts(source.read_label(), phase=phase, level=level)
    return None if facts is None else cardiac_caption(facts, rng)


def _acdc_name(folder: Path, name: str, ending: str) -> tuple[str, str, int, Path]:
    match = re.fullmatch(rf"(patient\d+)_(frame\d+){ending}(?:\.h5)?", name)
    if match is None:
        raise InputError(
            f"{folder}: '{name}' is no name of the SSL4MIS form; train_slices.list holds names like "
            "patient003_frame01_slice_1, test.list like patient028_frame01"
        )
    file = f"{name.removesuffix('.h5')}.h5"
    slices = folder / "data" / "slices" / file
    return match[1], match[2], int(match[3] or 0), slices if slices.is_file() else folder / "data" / file


def _read_list(path: Path) -> list[str]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; it lists the images of a split, one a line")
    return path.read_text(encoding="utf-8").split()


def find_sunnybrook(folder: Path, split: Split, skipped: Counter[str]) -> list[LabelledImage]:
    """Find Sunnybrook's slices; a fifth of the patients tests, 15 % of the others validates (our rule).

    Raises:
        InputError: A folder is missing.
    """
    names = _list_pictures(folder / "images")
    inner, outer = _list_pictures(folder / "i_labels"), _list_pictures(folder / "o_labels")
    patients = {name: name.split("-IM-")[0] for name in names}
    test = hold_out(patients.values(), 0.2, "sunnybrook")
    validation = hold_out(set(patients.values()) - test, 0.15, "sunnybrook")
    images = []
    for name in sorted(names):
        patient = patients[name]
        if split != ("test" if patient in test else "val" if patient in validation else "train"):
            continue
        if name not in inner:
            skipped["images without a label"] += 1
            continue
        caption = partial(_sunnybrook_caption, inner[name], outer.get(name))
        case_id = f"sunnybrook/{name.removesuffix('.png').removesuffix('.dcm')}"
        images.append(LabelledImage(case_id, f"sunnybrook/{patient}", StretchedPicture(names[name]), caption))
    return images


def _sunnybrook_caption(endocardium: Path, epicardium: Path | None, rng: random.Random) -> str | None:
    cavity = read_mask(endocardium)
    # The epicardium is outlined in part of the images: elsewhere the myocardium is unknown, not absent.
    ventricle = cavity if epicardium is None else read_mask(epicardium)
    label = np.where(cavity, LEFT_VENTRICLE, np.where(ventricle, MYOCARDIUM, 0))
    facts = cardiac_facts(label, right_ventricle_labelled=False)
    return None if facts is None else cardiac_caption(facts, rng)


def find_covid_qu_ex(folder: Path, split: Split, skipped: Counter[str]) -> list[LabelledImage]:
    """Find COVID-QU-Ex's X-rays of the infection part; `Val` tests, 15 % of `Train` validates.

    The set names no patients: each file counts as one.

    Raises:
        InputError: A folder is missing.
    """
    part = folder / "Infection Segmentation Data"
    part = part / part.name if (part / part.name).is_dir() else part
    images = []
    for diagnosis in DIAGNOSES:
        top = part / ("Val" if split == "test" else "Train") / diagnosis
        pictures = _list_pictures(top / "images")
        lungs, infections = _list_pictures(top / "lung masks"), _list_pictures(top / "infection masks")
        validation = hold_out(pictures, 0.15, f"covid_qu_ex/{diagnosis}")
        for name in sorted(pictures):
            if split != "test" and (name in validation) != (split == "val"):
                continue
            if name not in lungs or name not in infections:
                skipped["images without a mask"] += 1
                continue
            caption = partial(_covid_caption, diagnosis, lungs[name], infections[name])
            case_id = f"covid_qu_ex/{top.parent.name}/{diagnosis}/{name.removesuffix('.png')}"
            images.append(LabelledImage(case_id, case_id, PictureFile(pictures[name]), caption))
    return images


def _covid_caption(diagnosis: Diagnosis, lungs: Path, infection: Path, rng: random.Random) -> str | None:
    facts = chest_facts(diagnosis, read_mask(lungs), read_mask(infection))
    return None if facts is None else chest_caption(facts, rng)


def find_totalsegmentator_ct(folder: Path, split: Split, skipped: Counter[str]) -> list[LabelledImage]:
    """Find the slices of the one CT; all are training slices.

    Neighbouring slices of one patient look alike: a second split of this scan would test what was trained on.

    Raises:
        InputError: The scan or a mask is missing, damaged or of another geometry.
    """
    if split != "train":
        return []
    scan = folder / "ct.nii.gz"
    volume, affine = read_nifti(scan)
    organs: dict[str, Mask] = {}
    for path in sorted((folder / "organs").glob("*.nii.gz")):
        mask, mask_affine = read_nifti(path)
        if mask.shape != volume.shape or not np.allclose(mask_affine, affine, atol=1e-3):
            raise InputError(f"{path}: shape or affine is not that of {scan}")
        organs[organ_name(path.name.removesuffix(".nii.gz"))] = mask > 0
    if not organs:
        raise InputError(f"{folder / 'organs'}: no organ masks (*.nii.gz)")
    last = volume.shape[2] - 1
    pixel_area_mm2 = float(np.linalg.norm(np.cross(affine[:3, 0], affine[:3, 1])))
    images = []
    for index in range(last + 1):
        facts = ct_facts(
            {name: axial_slice(mask, index) for name, mask in organs.items()},
            index / max(last, 1),
            pixel_area_mm2,
        )
        source = NiftiSlice(scan, index, ABDOMEN_WINDOW_HU)
        patient = "totalsegmentator_ct/ct"
        images.append(LabelledImage(f"{patient}_slice_{index + 1:02d}", patient, source, partial(_ct_caption, facts)))
    return images


def _ct_caption(facts: CtFacts | None, rng: random.Random) -> str | None:
    return None if facts is None else ct_caption(facts, rng)


def organ_name(file_stem: str) -> str:
    """Turn `kidney_left` into "left kidney" and `portal_vein_and_splenic_vein` into words."""
    words = file_stem.split("_")
    if words[-1] in ("left", "right"):
        words = [words[-1], *words[:-1]]
    return " ".join(words)


def _list_pictures(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    return {path.name: path for path in folder.iterdir() if path.suffix.lower() == ".png"}


SETS: dict[str, SetFinder] = {
    "acdc_h5": find_acdc_h5,
    "sunnybrook": find_sunnybrook,
    "covid_qu_ex": find_covid_qu_ex,
    "totalsegmentator_ct": find_totalsegmentator_ct,
}
"""The folder names under the root, and what finds their images."""
