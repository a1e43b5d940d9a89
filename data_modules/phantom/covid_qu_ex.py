"""The phantom in the layout of COVID-QU-Ex: chest X-rays with lung and infection masks.

The pictures are those of `ChestXRay`, so they look as the radiographs of the ROCO phantom do.
"""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data_modules.phantom.anatomy import Facts
from data_modules.phantom.chest import ChestXRay
from data_modules.phantom.layout import Layout, Made
from data_modules.phantom.randomness import Streams

SIZE_PX = 256
"""Width and height of all pictures of the data set."""

DIAGNOSES = ("COVID-19", "Non-COVID", "Normal")
SPLITS = {"Train": "train", "Val": "validation", "Test": "test"}
"""Folder of each split, and the parameter that sets its size."""

_PARTS = {
    "Infection Segmentation Data": ("Train", "Val", "Test"),
    "Lung Segmentation Data": ("Test", "Train", "Val"),
}
"""The two parts share pictures and split them differently: they deal them out in another order."""

_MASKS = {
    "Infection Segmentation Data": ("lung masks", "infection masks"),
    "Lung Segmentation Data": ("lung masks",),
}
_FILE_NAME = {"COVID-19": "covid_{}.png", "Non-COVID": "non_COVID ({}).png", "Normal": "Normal ({}).png"}
_INFECTED = ("right lung opacity", "left lung opacity")
_LUNGS = ("right lung", "left lung", "right pleural effusion", "left pleural effusion", *_INFECTED)
_ZONES = ("upper", "middle", "lower")
_COMPRESSION = 6


@dataclass(frozen=True)
class Radiograph:
    """One picture, in both parts.

    Args:
        diagnosis: Its class.
        number: From 1, unique within the class.
        places: Its split in each part.
    """

    diagnosis: str
    number: int
    places: tuple[tuple[str, str], ...]

    @property
    def file_name(self) -> str:
        """In the way of the data set, with blanks and brackets."""
        return _FILE_NAME[self.diagnosis].format(self.number)


@dataclass(frozen=True)
class CovidQuExLayout(Layout[Radiograph, None]):
    """COVID-QU-Ex as unzipped: two parts in doubled folders.

    Directory tree::

        out/{Infection,Lung} Segmentation Data/<same>/{Train,Val,Test}/{COVID-19,Non-COVID,Normal}/
            images/covid_1.png             256 x 256, grey
            lung masks/covid_1.png         0 or 255
            infection masks/covid_1.png    infection part only; empty but for COVID-19

    A picture depends on the seed, its class and its number, not on the sizes of the splits.

    Args:
        train: Pictures of each part's `Train`, dealt to the three classes.
        validation: Pictures of each part's `Val`.
        test: Pictures of each part's `Test`.
    """

    name: ClassVar[str] = "covid_qu_ex"
    version: ClassVar[int] = 1
    own_files: ClassVar[re.Pattern[str]] = re.compile(
        rf"(?P<part>Infection|Lung) Segmentation Data/(?P=part) Segmentation Data/({'|'.join(SPLITS)})"
        rf"/({'|'.join(DIAGNOSES)})/(images|lung masks|infection masks)"
        r"/(covid_\d+|non_COVID \(\d+\)|Normal \(\d+\))\.png"
    )
    chunk_jobs: ClassVar[int] = 8
    few_jobs: ClassVar[int] = 50

    train: int = 120
    validation: int = 30
    test: int = 60

    def folders(self) -> list[str]:
        """See `Layout.folders`."""
        return [
            f"{part}/{part}/{split}/{diagnosis}/{kind}"
            for part, masks in _MASKS.items()
            for split in SPLITS
            for diagnosis in DIAGNOSES
            for kind in ("images", *masks)
        ]

    def jobs(self) -> list[Radiograph]:
        """All pictures."""
        jobs = []
        for place, diagnosis in enumerate(DIAGNOSES):
            share = {split: (getattr(self, name) + 2 - place) // 3 for split, name in SPLITS.items()}
            dealt = {part: [split for split in order for _ in range(share[split])] for part, order in _PARTS.items()}
            jobs += [
                Radiograph(diagnosis, index + 1, tuple((part, splits[index]) for part, splits in dealt.items()))
                for index in range(sum(share.values()))
            ]
        return jobs

    def size_of(self, job: Radiograph) -> int:
        """One picture."""
        return 1

    def make(self, job: Radiograph) -> Made[None]:
        """Draw a picture and its masks."""
        streams = Streams((self.seed, DIAGNOSES.index(job.diagnosis), job.number))
        anatomy = ChestXRay()
        scene = anatomy.draw(draw_facts(anatomy, job.diagnosis, streams("facts")), streams, SIZE_PX)
        masks = {
            "lung masks": _encode(_mask(anatomy, scene.labels, _LUNGS)),
            "infection masks": _encode(_mask(anatomy, scene.labels, _INFECTED if job.diagnosis == "COVID-19" else ())),
        }
        image = _encode(anatomy.acquire(scene, streams))
        files = {}
        for part, split in job.places:
            folder = f"{part}/{part}/{split}/{job.diagnosis}"
            files[f"{folder}/images/{job.file_name}"] = image
            files |= {f"{folder}/{kind}/{job.file_name}": masks[kind] for kind in _MASKS[part]}
        return Made(files, None)

    def finish(self, records: list[None]) -> tuple[Mapping[str, bytes], dict[str, Any]]:
        """Nothing speaks of all pictures."""
        return {}, {"items": {split: getattr(self, name) for split, name in SPLITS.items()}}


def draw_facts(anatomy: ChestXRay, diagnosis: str, rng: np.random.Generator) -> Facts:
    """Draw what a radiograph of a class shows.

    COVID-19: ground-glass or consolidated opacities, mostly in both lungs and mostly low. Non-COVID: a
    consolidation of one lung, at times with an effusion. Normal: neither.
    """
    while True:
        facts = anatomy.sample_facts(rng) | {
            "right opacity": "absent",
            "left opacity": "absent",
            "pleural effusion": "absent",
            "device": "none",  # wires across a lung would cut holes into its mask
            "artefact": "noise" if rng.random() < 0.1 else "none",
        }
        side = ("right", "left")[int(rng.integers(2))]
        if diagnosis == "COVID-19":
            for name in ("right", "left"):
                if name == side or rng.random() < 0.75:
                    facts[f"{name} opacity"] = str(rng.choice(_ZONES, p=(0.15, 0.35, 0.5)))
            facts["opacity kind"] = "ground-glass" if rng.random() < 0.7 else "consolidation"
            if rng.random() < 0.2:
                facts["device"] = "endotracheal tube"
        elif diagnosis == "Non-COVID":
            facts[f"{side} opacity"] = str(rng.choice(_ZONES))
            facts["opacity kind"] = "consolidation"
            if rng.random() < 0.3:
                facts["pleural effusion"] = side
        if anatomy.valid(facts):
            return facts


def _mask(anatomy: ChestXRay, labels: NDArray[np.uint8], names: tuple[str, ...]) -> NDArray[np.uint8]:
    inside = np.isin(labels, [anatomy.index_of(name) for name in names])
    return np.where(inside, 255, 0).astype(np.uint8)


def _encode(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=_COMPRESSION)
    return buffer.getvalue()
