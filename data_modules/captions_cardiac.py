"""Captions of short-axis cardiac MR slices, true by construction of their label maps."""

import math
import random
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from data_modules.label_measures import Mask, bucket, centre, direction, enumerate_words

RIGHT_VENTRICLE, MYOCARDIUM, LEFT_VENTRICLE = 1, 2, 3
"""ACDC's label ids (Bernard et al., TMI 2018)."""

# Limits that cut the 556 training slices of the real ACDC sample into groups of useful size. They are
# constants, not fitted on the user's data, so a caption never depends on other cases.
_CAVITY_SHARE_OF_IMAGE = (0.004, 0.009, 0.015, 0.024)
_CAVITY_WORDS = ("very small", "small", "medium-sized", "large", "very large")
_WALL_SHARE_OF_RADIUS = (0.22, 0.32, 0.45)
_WALL_WORDS = ("thin", "moderately thick", "thick", "very thick")
_RIGHT_TO_LEFT_AREA = (0.4, 0.8, 1.25, 2.2)
_RIGHT_TO_LEFT_WORDS = (
    "much smaller than",
    "smaller than",
    "about as large as",
    "larger than",
    "much larger than",
)
_OFF_CENTRE = 0.025


@dataclass(frozen=True, slots=True)
class CardiacFacts:
    """What is known of one slice; None where the labels do not tell.

    Attributes:
        structures: The outlined structures, in the order of mention.
        right_ventricle_labelled: Whether a right ventricle would be outlined if there were one.
        phase: "end-diastole" or "end-systole".
        level: "basal", "mid-ventricular" or "apical".
        cavity: Size of the left ventricular cavity relative to the image.
        wall: Thickness of the myocardium relative to the ventricle's outer radius (of circles of equal area).
        closed: Whether the myocardium surrounds the cavity without a gap.
        right_ventricle: Area of the right ventricle compared with the left cavity.
        right_side: Direction from the left ventricle to the right one, in the image.
        place: Direction from the image's centre to the left ventricle; "" when it is at the centre.
    """

    structures: tuple[str, ...]
    right_ventricle_labelled: bool
    phase: str | None
    level: str | None
    cavity: str | None
    wall: str | None
    closed: bool | None
    right_ventricle: str | None
    right_side: str | None
    place: str | None


def cardiac_facts(
    label: npt.NDArray[np.integer],
    *,
    phase: str | None = None,
    level: str | None = None,
    right_ventricle_labelled: bool = True,
) -> CardiacFacts | None:
    """Measure a label map.

    Args:
        label: Ids 0 background, 1 right ventricle, 2 myocardium, 3 left ventricular cavity; shape (H, W), row
            0 at the top. Pixels are square; their size is not needed.
        phase: Phase of the heart cycle, when known.
        level: Level of the slice along the ventricle, when known.
        right_ventricle_labelled: False for sets that outline the left ventricle only.

    Returns:
        The facts, or None when nothing is outlined.
    """
    right, wall, left = (label == i for i in (RIGHT_VENTRICLE, MYOCARDIUM, LEFT_VENTRICLE))
    ventricle = wall | left
    if not (ventricle.any() or right.any()):
        return None
    names = (("left ventricle", left), ("myocardium", wall), ("right ventricle", right))
    has_ring = bool(left.any() and wall.any())
    has_both = bool(left.any() and right.any())
    side = place = None
    if ventricle.any():
        row, column = centre(ventricle)
        place = direction(row - 0.5, column - 0.5, _OFF_CENTRE)
    if has_both:
        down, aside = np.subtract(centre(right), centre(left)).tolist()
        # An offset counts as sideways only when it is a fair part of the larger one.
        side = direction(down, aside, tolerance=0.35 * max(abs(down), abs(aside)))
    return CardiacFacts(
        structures=tuple(name for name, mask in names if mask.any()),
        right_ventricle_labelled=right_ventricle_labelled,
        phase=phase,
        level=level,
        cavity=bucket(left.mean(), _CAVITY_SHARE_OF_IMAGE, _CAVITY_WORDS) if left.any() else None,
        wall=bucket(_relative_thickness(left, wall), _WALL_SHARE_OF_RADIUS, _WALL_WORDS) if has_ring else None,
        closed=_surrounds(wall, left) if has_ring else None,
        right_ventricle=bucket(right.sum() / left.sum(), _RIGHT_TO_LEFT_AREA, _RIGHT_TO_LEFT_WORDS)
        if has_both
        else None,
        right_side=side,
        place=place,
    )


def _relative_thickness(cavity: Mask, wall: Mask) -> float:
    return 1 - math.sqrt(cavity.sum() / (cavity.sum() + wall.sum()))


def _surrounds(wall: Mask, cavity: Mask) -> bool:
    """Tell whether no path leads from the cavity to the picture's edge but through the wall."""
    rows, columns = np.nonzero(wall | cavity)
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    # A margin joins everything outside into one part.
    parts, _ = ndimage.label(np.pad(~wall[box], 1, constant_values=True))
    return not (parts[1:-1, 1:-1][cavity[box]] == parts[0, 0]).any()


def cardiac_caption(facts: CardiacFacts, rng: random.Random) -> str:
    """Put the facts into words; `rng` chooses among several phrasings and the order of the details."""
    opening = rng.choice(
        (
            "Short-axis cardiac MRI",
            "Short-axis cardiac magnetic resonance image",
            "Cine MRI of the heart in short-axis view",
            "Cardiac MR slice in the short axis",
        )
    )
    when = rng.choice((f" at {facts.phase}", f" in {facts.phase}")) if facts.phase else ""
    where = rng.choice((f", {facts.level} level", f", {facts.level} slice")) if facts.level else ""
    seen = enumerate_words(facts.structures)
    first = rng.choice((f"{opening}{when}{where}, showing {seen}.", f"{opening}{when}{where}: {seen}."))
    details = [rng.choice(phrasings) for phrasings in _details(facts)]
    rng.shuffle(details)
    return " ".join([first, *details])


def _details(facts: CardiacFacts) -> list[tuple[str, ...]]:
    details: list[tuple[str, ...]] = []
    if facts.cavity:
        details.append((f"The left ventricular cavity is {facts.cavity}.", f"Its LV cavity is {facts.cavity}."))
    if facts.wall:
        ring = f"{facts.wall}, {'closed' if facts.closed else 'open'}"
        details.append((f"The myocardium forms a {ring} ring.", f"A {ring} myocardial ring."))
    if facts.right_ventricle:
        where, size = facts.right_side, facts.right_ventricle
        details.append(
            (
                f"The right ventricle lies {where} the left, {size} its cavity.",
                f"The RV, {where} the LV, is {size} the LV cavity.",
            )
        )
    elif facts.right_ventricle_labelled and "right ventricle" not in facts.structures:
        details.append(("No right ventricle is outlined.", "There is no outlined RV cavity."))
    if facts.place is not None:
        place = f"{facts.place} the image centre" if facts.place else "at the image centre"
        details.append((f"The left ventricle lies {place}.", f"LV {place}."))
    return details
