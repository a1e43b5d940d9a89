"""Finds the X-rays of COVID-QU-Ex and their masks on disk."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from data_modules.captioned_images import list_images
from data_modules.screening import hold_out
from medzeroseg.imaging import InputError

Part = Literal["lungs", "infection"]
Diagnosis = Literal["COVID-19", "Non-COVID", "Normal"]
"""The classes; "Non-COVID" is viral or bacterial pneumonia of another cause, without an outline."""
DIAGNOSES: tuple[Diagnosis, ...] = get_args(Diagnosis)

FOLDER_OF_PART: dict[Part, str] = {
    "lungs": "Lung Segmentation Data",
    "infection": "Infection Segmentation Data",
}
VALIDATION_SHARE = 0.15
"""Of `Train`, where `Val` tests."""

HOW_TO_GET = (
    "COVID-QU-Ex is obtained from Kaggle (anasmohammedtahir/covidqu, an account is needed) under CC BY-SA 4.0; cite "
    "Tahir et al. Unzipped, it holds the folders 'Lung Segmentation Data' and 'Infection Segmentation Data'. Nothing "
    "is downloaded from here. "
    "To try the project without it, run the phantom, which needs no data: make train EXP=phantom_cehnc"
)


@dataclass(frozen=True, slots=True)
class XRay:
    """An X-ray of the set.

    Attributes:
        name: Its file's name without the ending; unique within folder and diagnosis.
        diagnosis: The class folder in which it lies.
        image: The picture.
        lungs: Its lung mask.
        infection: Its infection mask; None in the lung part.
    """

    name: str
    diagnosis: Diagnosis
    image: Path
    lungs: Path
    infection: Path | None


def find_part(root: Path, part: Part) -> Path:
    """Find the folder of a part; unzipped copies hold it once or twice nested, and a root may be the part itself.

    Raises:
        InputError: It is not there.
    """
    name = FOLDER_OF_PART[part]
    for folder in (root / name / name, root / name):
        if folder.is_dir() and any((folder / split).is_dir() for split in ("Train", "Val", "Test")):
            return folder
    if root.name == name and (root / "Train").is_dir():
        return root
    raise InputError(f"{root}: there is no folder '{name}' with Train, Val and Test in it. {HOW_TO_GET}")


def find_xrays(folder: Path, part: Part, skipped: Counter[str]) -> list[XRay]:
    """List the X-rays of one of `Train`, `Val` and `Test`, by diagnosis, then by name.

    Names are compared letter by letter: `non_COVID (7)` and `Non_COVID (7)` are two X-rays. Endings are not.

    Args:
        folder: Holds the folders of the diagnoses.
        part: Which masks are needed.
        skipped: Gets the number of X-rays that lack a mask, and of masks that lack an X-ray.

    Raises:
        InputError: A folder is missing.
    """
    xrays = []
    for diagnosis in DIAGNOSES:
        top = folder / diagnosis
        names = ("images", "lung masks", "infection masks") if part == "infection" else ("images", "lung masks")
        absent = [name for name in names if not (top / name).is_dir()]
        if absent:
            raise InputError(f"{top}: there is no folder '{absent[0]}'. {HOW_TO_GET}")
        images, lungs, *infections = (list_images(top / name).files for name in names)
        masks = [lungs, *infections]
        for name in sorted(images):
            if all(name in mask for mask in masks):
                infection = infections[0][name] if infections else None
                xrays.append(XRay(name, diagnosis, images[name], lungs[name], infection))
            else:
                skipped["images without a mask"] += 1
        skipped["masks without an image"] += len(set().union(*masks) - images.keys())
    return xrays


def held_out_of_train(xrays: list[XRay]) -> set[tuple[Diagnosis, str]]:
    """Choose the X-rays of `Train` that validate where `Val` tests: `VALIDATION_SHARE` of each diagnosis.

    Returns:
        Their (diagnosis, name).
    """
    held: set[tuple[Diagnosis, str]] = set()
    for diagnosis in DIAGNOSES:
        names = {f"{xray.name}.png": xray.name for xray in xrays if xray.diagnosis == diagnosis}
        chosen = hold_out(names, VALIDATION_SHARE, f"covid_qu_ex/{diagnosis}") if names else set()
        held |= {(diagnosis, names[name]) for name in chosen}
    return held
