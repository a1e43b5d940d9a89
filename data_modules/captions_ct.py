"""Captions of axial abdominal CT slices, true by construction of their organ masks."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from data_modules.label_measures import Mask, bucket, enumerate_words

MIN_AREA_MM2 = 45.0
"""A smaller piece of an organ (5 pixels of 3 mm) is not called visible."""

_LEVEL = (1 / 3, 2 / 3)
_LEVEL_WORDS = ("lower", "middle", "upper")


@dataclass(frozen=True, slots=True)
class CtFacts:
    """What is known of one slice.

    Attributes:
        organs: Names of the visible organs, largest first.
        level: Third of the scan that the slice lies in: "lower", "middle" or "upper".
    """

    organs: tuple[str, ...]
    level: str


def ct_facts(masks: Mapping[str, Mask], height_in_scan: float, pixel_area_mm2: float) -> CtFacts | None:
    """Measure the organ masks of a slice.

    Args:
        masks: Organ name to mask, each (H, W).
        height_in_scan: Place of the slice between the lowest (0) and the highest (1) of its scan.
        pixel_area_mm2: Area of a pixel in mm².

    Returns:
        The facts, or None when no organ is visible.
    """
    areas = {name: float(mask.sum()) * pixel_area_mm2 for name, mask in masks.items()}
    visible = [name for name in sorted(areas) if areas[name] >= MIN_AREA_MM2]
    if not visible:
        return None
    visible.sort(key=lambda name: -areas[name])
    return CtFacts(tuple(visible), bucket(height_in_scan, _LEVEL, _LEVEL_WORDS))


def ct_caption(facts: CtFacts, rng: random.Random) -> str:
    """Put the facts into words; `rng` chooses among several phrasings."""
    opening = rng.choice(("Axial abdominal CT", "Axial CT slice of the abdomen", "Axial abdominal CT image"))
    seen = enumerate_words([f"the {name}" for name in facts.organs])
    first = rng.choice((f"{opening} showing {seen}.", f"{opening} with {seen} visible.", f"{opening}: {seen}."))
    largest = facts.organs[0]
    details = [
        rng.choice((f"Of these the {largest} is largest.", f"The largest of these is the {largest}.")),
        rng.choice(
            (
                f"It lies in the {facts.level} third of the scan.",
                f"A slice of the scan's {facts.level} third.",
            )
        ),
    ]
    return " ".join([first, *details])
