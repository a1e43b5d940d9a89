"""Finds the images of each labelled real set, its split by patient, and a caption from the labels.

Files, splits and pixels are those of the sets' own data modules; here slices are named and captioned.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from data_modules.acdc import ACDCDataModule
from data_modules.captions_cardiac import LEFT_VENTRICLE, MYOCARDIUM, RIGHT_VENTRICLE, cardiac_caption, cardiac_facts
from data_modules.captions_chest import chest_caption, chest_facts
from data_modules.captions_ct import CtFacts, ct_caption, ct_facts
from data_modules.case_sources import ArrayFiles, MaskFiles, PictureWithMasks, VolumePair, VolumeWithMasks
from data_modules.cases import CaseSource
from data_modules.covid_qu_ex_files import Diagnosis, find_part, find_xrays, held_out_of_train
from data_modules.label_measures import bucket
from data_modules.label_sources import CaseSlice, read_case
from data_modules.listing import list_folder
from data_modules.pairs import ImageSource, PictureFile
from data_modules.splits import Split
from data_modules.sunnybrook import find_slices
from data_modules.windows import NamedStructures
from medzeroseg.imaging import ABDOMEN_WINDOW_HU, InputError

CARDIAC_MR, CHEST_XRAY, ABDOMINAL_CT = "cardiac MRI", "chest X-ray", "abdominal CT"
"""Kinds of picture in the words of prompts."""

NO_STRUCTURE = "slices in which nothing is outlined"
_LUNGS, _INFECTION = 1, 2


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An image of a labelled set.

    Attributes:
        case_id: The set's name and the image's public id.
        patient: The set's name and the patient's public id; a patient is in one split only.
        source: Reads the picture.
        caption: Reads the labels and words a caption; None when the labels show nothing.
        structures: What is outlined in it.
    """

    case_id: str
    patient: str
    source: ImageSource
    caption: Callable[[random.Random], str | None]
    structures: NamedStructures


SetFinder = Callable[[Path, Split, Counter[str]], list[LabelledImage]]
"""(folder of the set, split, counts of what is left out and why) to the images of the split."""


def find_acdc_h5(folder: Path, split: Split, skipped: Counter[str]) -> list[LabelledImage]:
    """Find ACDC's slices in the SSL4MIS form; a fifth of the training patients is the validation split.

    Raises:
        InputError: A list or a listed file is missing, a name is not understood, a volume cannot be read, or a patient
            is in both lists.
    """
    module = ACDCDataModule(folder, split="lists")
    index = {part: module.index_split(part) for part in ("train", "val", "test")}
    patients = {part: {case.patient for case in found.cases} for part, found in index.items()}
    both = (patients["train"] | patients["val"]) & patients["test"]
    if both:
        raise InputError(f"{folder}: {', '.join(sorted(both))} in train_slices.list and in test.list")
    skipped.update(index[split].skipped)
    cases = index[split].cases
    if split == "test":
        # In the order of the list, which numbers the test pairs.
        listed = (folder / "test.list").read_text(encoding="utf-8-sig").split()
        names = [name.removesuffix(".h5").partition("_slice_")[0] for name in listed]
        cases.sort(key=lambda case: names.index(case.case_id))
    images = []
    for case in cases:
        slices = _acdc_slices(case.source)
        count = max(number for number, _ in slices)
        for number, source in slices:
            # Slices run from base to apex.
            level = bucket((number - 0.5) / count, (1 / 3, 2 / 3), ("basal", "mid-ventricular", "apical"))
            caption = partial(_acdc_caption, source, case.facts.get("phase"), level)
            case_id = f"acdc_h5/{case.case_id}_slice_{number:02d}"
            structures = NamedStructures(CARDIAC_MR, _ACDC_PARTS, source)
            images.append(LabelledImage(case_id, f"acdc_h5/{case.patient}", source, caption, structures))
    return images


_ACDC_PARTS = {"right ventricle": (RIGHT_VENTRICLE,), "myocardium": (MYOCARDIUM,), "left ventricle": (LEFT_VENTRICLE,)}


def _acdc_slices(source: CaseSource) -> list[tuple[int, CaseSlice]]:
    """Number a case's slices, from 1; a slice with a file of its own is read from it alone."""
    numbers = [path.stem.partition("_slice_")[2] for path in source.files]
    if all(numbers):
        return [
            (int(number), CaseSlice(ArrayFiles((path,)))) for number, path in zip(numbers, source.files, strict=True)
        ]
    return [(index + 1, CaseSlice(source, index)) for index in range(len(read_case(source).image))]


def _acdc_caption(source: CaseSlice, phase: str | None, level: str, rng: random.Random) -> str | None:
    facts = cardiac_facts(source.read_label(), phase=phase, level=level)
    return None if facts is None else cardiac_caption(facts, rng)


def find_sunnybrook(folder: Path, split: Split, skipped: Counter[str]) -> list[LabelledImage]:
    """Find Sunnybrook's slices, those without an epicardium, too.

    Raises:
        InputError: A folder is missing.
    """
    images = []
    for one in find_slices(folder, split, skipped):
        # The epicardium is outlined in part of the images: elsewhere the myocardium is unknown, not absent, and the
        # caption says nothing of it.
        masks: MaskFiles = ((one.endocardium, LEFT_VENTRICLE),)
        parts = {"left ventricle": (LEFT_VENTRICLE,)}
        if one.epicardium is not None:
            masks = ((one.epicardium, MYOCARDIUM), *masks)
            parts["myocardium"] = (MYOCARDIUM,)
        source = CaseSlice(PictureWithMasks(one.image, masks))
        images.append(
            LabelledImage(
                f"sunnybrook/{one.name}",
                f"sunnybrook/{one.patient}",
                source,
                partial(_sunnybrook_caption, source),
                NamedStructures(CARDIAC_MR, parts, source),
            )
        )
    return images


def _sunnybrook_caption(source: CaseSlice, rng: random.Random) -> str | None:
    facts = cardiac_facts(source.read_label(), right_ventricle_labelled=False)
    return None if facts is None else cardiac_caption(facts, rng)


def find_covid_qu_ex(folder: Path, split: Split, skipped: Counter[str]) -> list[LabelledImage]:
    """Find COVID-QU-Ex's X-rays of the infection part; `Val` tests, 15 % of `Train` validates.

    The set names no patients: each file counts as one.

    Raises:
        InputError: A folder is missing.
    """
    top = find_part(folder, "infection") / ("Val" if split == "test" else "Train")
    xrays = find_xrays(top, "infection", skipped)
    if split != "test":
        held = held_out_of_train(xrays)
        xrays = [xray for xray in xrays if ((xray.diagnosis, xray.name) in held) == (split == "val")]
    images = []
    for xray in xrays:
        masks = [(xray.lungs, _LUNGS), *([] if xray.infection is None else [(xray.infection, _INFECTION)])]
        labels = CaseSlice(PictureWithMasks(xray.image, tuple(masks)))
        case_id = f"covid_qu_ex/{top.name}/{xray.diagnosis}/{xray.name}"
        caption = partial(_covid_caption, xray.diagnosis, labels)
        parts: dict[str, tuple[int, ...]] = {"lungs": (_LUNGS, _INFECTION)}
        if xray.diagnosis != "Non-COVID":  # other pneumonias are not outlined there: unknown, not absent
            parts["infection"] = (_INFECTION,)
        structures = NamedStructures(CHEST_XRAY, parts, labels)
        images.append(LabelledImage(case_id, case_id, PictureFile(xray.image), caption, structures))
    return images


def _covid_caption(diagnosis: Diagnosis, labels: CaseSlice, rng: random.Random) -> str | None:
    label = labels.read_label()
    facts = chest_facts(diagnosis, np.isin(label, (_LUNGS, _INFECTION)), label == _INFECTION)
    return None if facts is None else chest_caption(facts, rng)


def find_totalsegmentator_ct(folder: Path, split: Split, skipped: Counter[str]) -> list[LabelledImage]:
    """Find the slices of the one CT; all are training slices.

    Neighbouring slices of one patient look alike: a second split of this scan would test what was trained on.

    Raises:
        InputError: The scan or a mask is missing, damaged or of another geometry.
    """
    if split != "train":
        return []
    scan, organs = folder / "ct.nii.gz", folder / "organs"
    files = [organs / name for name in list_folder(organs) if name.endswith(".nii.gz")]
    if not files:
        raise InputError(f"{organs}: no organ masks (*.nii.gz)")
    names = {label: organ_name(path.name.removesuffix(".nii.gz")) for label, path in enumerate(files, start=1)}
    labelled = VolumeWithMasks(scan, tuple(zip(files, names, strict=True)), view="axial")
    arrays = read_case(labelled)
    if arrays.mask is None or arrays.spacing_mm is None:
        raise InputError(f"{scan}: the file does not say how large its voxels are")
    pixel_area_mm2 = arrays.spacing_mm[1] * arrays.spacing_mm[2]
    last = len(arrays.mask) - 1
    picture = VolumePair(scan, view="axial")
    images = []
    for index, label in enumerate(arrays.mask):
        masks = {name: label == label_id for label_id, name in names.items()}
        facts = ct_facts(masks, index / max(last, 1), pixel_area_mm2)
        source = CaseSlice(picture, index, ABDOMEN_WINDOW_HU)
        patient = "totalsegmentator_ct/ct"
        parts = {name: (label_id,) for label_id, name in names.items()}
        structures = NamedStructures(ABDOMINAL_CT, parts, CaseSlice(labelled, index))
        case_id = f"{patient}_slice_{index + 1:02d}"
        images.append(LabelledImage(case_id, patient, source, partial(_ct_caption, facts), structures))
    return images


def _ct_caption(facts: CtFacts | None, rng: random.Random) -> str | None:
    return None if facts is None else ct_caption(facts, rng)


def organ_name(file_stem: str) -> str:
    """Turn `kidney_left` into "left kidney" and `portal_vein_and_splenic_vein` into words."""
    words = file_stem.split("_")
    if words[-1] in ("left", "right"):
        words = [words[-1], *words[:-1]]
    return " ".join(words)


SETS: dict[str, SetFinder] = {
    "acdc_h5": find_acdc_h5,
    "sunnybrook": find_sunnybrook,
    "covid_qu_ex": find_covid_qu_ex,
    "totalsegmentator_ct": find_totalsegmentator_ct,
}
"""The folder names under the root, and what finds their images."""
