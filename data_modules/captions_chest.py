"""Captions of chest X-rays, true by construction of their class, lung mask and infection mask."""

import random
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from data_modules.covid_qu_ex_files import Diagnosis
from data_modules.label_measures import Mask, bucket, centre, direction, enumerate_words

# Limits that cut the 700 training images of the real COVID-QU-Ex sample into groups of useful size
# (constants).
_EXTENT = (0.1, 0.25, 0.5, 0.75, 0.95)
_EXTENT_WORDS = (
    "less than 10 percent",
    "10 to 25 percent",
    "25 to 50 percent",
    "50 to 75 percent",
    "75 to 95 percent",
    "nearly all",
)
_LUNG_SHARE_OF_IMAGE = (0.17, 0.21, 0.25, 0.31)
_LUNG_WORDS = ("very small", "small", "medium-sized", "large", "very large")
_RIGHT_TO_LEFT_AREA = (1 / 1.1, 1.1, 1.35)
_RIGHT_TO_LEFT_WORDS = (
    "The left lung field is larger than the right one.",
    "Both lung fields are about equally large.",
    "The right lung field is larger than the left one.",
    "The right lung field is clearly larger than the left one.",
)
_WIDTH_TO_HEIGHT = (0.95, 1.15)
_SHAPE_WORDS = ("higher than wide", "about as wide as high", "wider than high")
_OFF_CENTRE = 0.04
_TRACE = 0.02  # a smaller infected share of a lung is not mentioned: outlines overlap by a pixel or two
_UNEVEN = 1.5  # how many times more of one lung than of the other, to be called predominant


@dataclass(frozen=True, slots=True)
class ChestFacts:
    """What is known of one frontal chest X-ray; right and left are the patient's.

    A frontal X-ray shows the patient's right lung on the left of the image.

    Attributes:
        diagnosis: The image's class.
        lungs: Size of the lung fields relative to the image.
        balance: A sentence that compares the two lung fields.
        shape: Width of both lung fields together compared with their height.
        place: Direction from the image's centre to the lung fields; "" at the centre.
        extent: Infected share of the lungs; None without an infection mask.
        side: Where the infection is: "the right lung", "the left lung", "both lungs", ...
        zones: Upper, middle, lower thirds of the lungs that are clearly infected, from the top.
    """

    diagnosis: Diagnosis
    lungs: str
    balance: str
    shape: str
    place: str
    extent: str | None = None
    side: str | None = None
    zones: tuple[str, ...] = ()


def split_lungs(lungs: Mask) -> tuple[Mask, Mask]:
    """Part a mask of both lungs into the patient's right and left lung.

    The two largest connected parts are the lungs when the second is at least a tenth of the first; every
    smaller part goes with the nearer one. Lungs that touch are parted at the middle column of the mask.

    Args:
        lungs: Shape (H, W), not empty, of a frontal X-ray in the usual display.

    Returns:
        Right lung (on the left of the image) and left lung, each (H, W).
    """
    parts, count = ndimage.label(lungs)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    largest = np.argsort(-sizes, kind="stable")[:2]
    columns = np.arange(lungs.shape[1])
    if count > 1 and sizes[largest[1]] >= 0.1 * sizes[largest[0]]:
        middle = float(np.mean([centre(parts == i + 1)[1] for i in largest])) * lungs.shape[1]
        part_columns = np.array([centre(parts == i + 1)[1] * lungs.shape[1] for i in range(count)])
        on_left = np.concatenate(([False], part_columns < middle))[parts]
    else:
        occupied = np.nonzero(lungs.any(axis=0))[0]
        on_left = np.broadcast_to(columns < (occupied[0] + occupied[-1] + 1) / 2, lungs.shape)
    return lungs & on_left, lungs & ~on_left


def chest_facts(diagnosis: Diagnosis, lungs: Mask, infection: Mask | None) -> ChestFacts | None:
    """Measure the masks of one X-ray.

    Args:
        diagnosis: The image's class.
        lungs: Lung mask, shape (H, W), row 0 at the top.
        infection: Infection mask of the same shape; looked at for COVID-19 only, the others have no outlines.

    Returns:
        The facts, or None when the lung mask is empty or shows one lung only.
    """
    if not lungs.any():
        return None
    right, left = split_lungs(lungs)
    if not (right.any() and left.any()):
        return None
    rows, columns = np.nonzero(lungs)
    height, width = lungs.shape
    down = (rows.min() + rows.max() + 1) / 2 / height - 0.5
    aside = (columns.min() + columns.max() + 1) / 2 / width - 0.5
    extent = side = None
    zones: tuple[str, ...] = ()
    if diagnosis == "COVID-19" and infection is not None and (infection & lungs).any():
        extent = bucket((infection & lungs).sum() / lungs.sum(), _EXTENT, _EXTENT_WORDS)
        side = _side(float(infection[right].mean()), float(infection[left].mean()))
        zones = _zones(infection, right, left)
    return ChestFacts(
        diagnosis=diagnosis,
        lungs=bucket(lungs.mean(), _LUNG_SHARE_OF_IMAGE, _LUNG_WORDS),
        balance=bucket(right.sum() / left.sum(), _RIGHT_TO_LEFT_AREA, _RIGHT_TO_LEFT_WORDS),
        shape=bucket(np.ptp(columns + 1) / np.ptp(rows + 1), _WIDTH_TO_HEIGHT, _SHAPE_WORDS),
        place=direction(down, aside, _OFF_CENTRE),
        extent=extent,
        side=side,
        zones=zones,
    )


def _side(right: float, left: float) -> str:
    if min(right, left) < _TRACE <= max(right, left):
        return "the right lung only" if right > left else "the left lung only"
    if max(right, left) > _UNEVEN * min(right, left):
        return "both lungs, more in the right one" if right > left else "both lungs, more in the left one"
    return "both lungs"


def _zones(infection: Mask, right: Mask, left: Mask) -> tuple[str, ...]:
    """Name the thirds whose infected share is at least half of the most infected third's."""
    infected, area = np.zeros(3), np.zeros(3)
    for lung in (right, left):
        rows = np.nonzero(lung.any(axis=1))[0]
        for zone, third in enumerate(np.array_split(rows, 3)):
            infected[zone] += (infection & lung)[third].sum()
            area[zone] += lung[third].sum()
    share = infected / np.maximum(area, 1)
    return tuple(
        name for name, value in zip(("upper", "middle", "lower"), share, strict=True) if value >= share.max() / 2
    )


def chest_caption(facts: ChestFacts, rng: random.Random) -> str:
    """Put the facts into words; `rng` chooses among several phrasings and the order of the details."""
    opening = rng.choice(("Chest X-ray", "Frontal chest radiograph", "Chest radiograph"))
    finding = rng.choice(
        {
            "COVID-19": (
                "with COVID-19 pneumonia",
                "of a patient with COVID-19",
                "showing COVID-19 infection",
            ),
            "Non-COVID": ("with pneumonia other than COVID-19", "showing non-COVID pneumonia"),
            "Normal": ("without lung infection", "with normal lungs", "showing healthy lungs"),
        }[facts.diagnosis]
    )
    details = [rng.choice(phrasings) for phrasings in _details(facts)]
    rng.shuffle(details)
    return " ".join([f"{opening} {finding}.", *details])


def _details(facts: ChestFacts) -> list[tuple[str, ...]]:
    details: list[tuple[str, ...]] = []
    if facts.extent and facts.side:
        zones = (
            "all zones"
            if len(facts.zones) == 3
            else f"the {enumerate_words(facts.zones)} zone{'s' if len(facts.zones) > 1 else ''}"
        )
        details.append(
            (
                f"The infection covers {facts.extent} of the lung area.",
                f"Opacities take up {facts.extent} of the lungs.",
            )
        )
        mainly = "" if len(facts.zones) == 3 else "mainly "
        details.append(
            (
                f"The infection involves {facts.side}, {mainly}in {zones}.",
                f"Opacities in {facts.side}, {mainly}in {zones}.",
            )
        )
    place = f"{facts.place} the image centre" if facts.place else "at the image centre"
    details.append(
        (
            f"The lung fields are {facts.lungs}, {facts.shape}, {place}.",
            f"{facts.lungs.capitalize()} lungs, {facts.shape}, lie {place}.",
        )
    )
    details.append((facts.balance,))
    return details
