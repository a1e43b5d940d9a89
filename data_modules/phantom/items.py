"""One image-text pair of the phantom, as a function of its place in the data set."""

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from data_modules.phantom.abdomen import AbdomenCT
from data_modules.phantom.abdomen_language import ABDOMEN_LANGUAGE
from data_modules.phantom.anatomy import Anatomy, Facts
from data_modules.phantom.captions import Caption, Language, write_caption
from data_modules.phantom.cardiac import CardiacMRI
from data_modules.phantom.cardiac_language import CARDIAC_LANGUAGE
from data_modules.phantom.chest import ChestXRay
from data_modules.phantom.chest_language import CHEST_LANGUAGE
from data_modules.phantom.geometry import LabelImage
from data_modules.phantom.randomness import Streams

SPLITS: Final = ("train", "validation", "test")

MODALITIES: Final[tuple[tuple[Anatomy, Language], ...]] = (
    (CardiacMRI(), CARDIAC_LANGUAGE),
    (AbdomenCT(), ABDOMEN_LANGUAGE),
    (ChestXRay(), CHEST_LANGUAGE),
)

JPEG_QUALITY = 90

_PATIENT, _ACQUISITION = 0, 1  # what a stream is for: shared by a group, or an item's own


@dataclass(frozen=True)
class ItemPlace:
    """Where an item stands, which settles all that it holds.

    Args:
        seed: Seed of the data set.
        split: Name of the split.
        index: Position in the split, from 0.
        count: Number of items in the split.
        hard_negative_fraction: Share of the items that are paired with one that differs in a single fact.
    """

    seed: int
    split: str
    index: int
    count: int
    hard_negative_fraction: float

    @property
    def case_id(self) -> str:
        """ROCO identifier, unique over the splits and independent of their sizes."""
        return f"ROCO_{len(SPLITS) * self.index + SPLITS.index(self.split) + 1:05d}"

    @property
    def paired(self) -> bool:
        """Whether the item belongs to a pair of hard negatives: items 2k and 2k + 1 then share a patient."""
        pair = self.index // 2
        share = round(self.hard_negative_fraction * 1_000_000)  # whole numbers: no rounding at the borders
        return 2 * pair + 1 < self.count and (pair + 1) * share // 1_000_000 > pair * share // 1_000_000

    @property
    def first_index(self) -> int:
        """Position of the first item of the group."""
        return self.index - self.index % 2 if self.paired else self.index

    @property
    def group_id(self) -> str:
        """Identifier of the patient; the members of a pair share it."""
        return ItemPlace(self.seed, self.split, self.first_index, self.count, self.hard_negative_fraction).case_id

    def streams(self, purpose: int) -> Streams:
        """Return the random streams of the patient or of the acquisition."""
        index = self.first_index if purpose == _PATIENT else self.index
        return Streams((self.seed, SPLITS.index(self.split), index, purpose))


@dataclass(frozen=True, eq=False)
class Item:
    """An image-text pair and the truth about it.

    Args:
        place: Where it stands.
        modality: Name of the modality.
        facts: What is true of the scene.
        contrast: The factor in which the members of its pair differ, `None` without a pair.
        caption: Text and what it claims.
        image: Picture, uint8, shape `(H, W)`.
        labels: Label map, uint8, shape `(H, W)`.
    """

    place: ItemPlace
    modality: str
    facts: Facts
    contrast: str | None
    caption: Caption
    image: LabelImage
    labels: LabelImage

    @property
    def areas_px(self) -> dict[str, int]:
        """Number of pixels of each structure in the label map."""
        counts = np.bincount(self.labels.ravel(), minlength=256)
        anatomy, _ = find_modality(self.modality)
        return {s.name: int(counts[s.index]) for s in anatomy.structures if counts[s.index]}


def make_item(place: ItemPlace, size_px: int) -> Item:
    """Draw, acquire and describe one item.

    Args:
        place: Where it stands.
        size_px: Width and height of the picture.
    """
    patient = place.streams(_PATIENT)
    rng = patient("facts")
    anatomy, language = MODALITIES[int(rng.integers(len(MODALITIES)))]
    facts = anatomy.sample_facts(rng)
    contrast = None
    if place.paired:
        contrast, changed = anatomy.contrast(facts, rng)
        facts = facts if place.index == place.first_index else changed
    scene = anatomy.draw(facts, patient, size_px)
    image = anatomy.acquire(scene, place.streams(_ACQUISITION))
    caption = write_caption(language, anatomy, facts, patient, (contrast,) if contrast else ())
    return Item(place, anatomy.name, facts, contrast, caption, image, scene.labels)


def find_modality(name: str) -> tuple[Anatomy, Language]:
    """Return the anatomy and the language of a modality.

    Raises:
        KeyError: If there is no such modality.
    """
    for anatomy, language in MODALITIES:
        if anatomy.name == name:
            return anatomy, language
    raise KeyError(name)


def encode_jpeg(image: LabelImage) -> bytes:
    """Return the picture as a greyscale JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def encode_label_map(labels: LabelImage) -> bytes:
    """Return the label map as a PNG whose pixel values are the labels, with a palette to look at."""
    picture = Image.fromarray(labels).convert("P")
    picture.putpalette(_PALETTE)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _palette() -> bytes:
    """256 colours: black, then hues a golden angle apart."""
    steps = np.arange(256)
    hues = (steps * 0.618034) % 1.0
    channels = np.stack([(hues + shift) % 1.0 for shift in (0, 1 / 3, 2 / 3)], 1)
    colours = (np.abs(channels * 2 - 1) * 215 + 40).astype(np.uint8)
    colours[0] = 0
    return bytes(colours.tobytes())


_PALETTE = _palette()
