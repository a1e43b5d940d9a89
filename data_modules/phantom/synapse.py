"""The phantom in the raw layout of Synapse (BTCV): abdominal CT volumes with 13 labelled organs."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from data_modules.phantom.abdomen import NOISE_HU, scan
from data_modules.phantom.abdomen_person import Person
from data_modules.phantom.abdomen_volume import draw_slice
from data_modules.phantom.layout import Layout, Made
from data_modules.phantom.nifti import encode_nifti
from data_modules.phantom.randomness import SliceStreams, Streams

CASE_NUMBERS = (*range(1, 11), *range(21, 41))
"""The labelled volumes of the real data set."""

_TEST_NUMBERS = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)  # TransUNet's split (Chen et al., 2021)
_VALIDATION_NUMBERS = (5, 9, 39)  # those that `SynapseDataModule` holds out of the others to validate
_NO_GALLBLADDER = 0.1  # share of patients
_FOLDER = "RawData/Training"


@dataclass(frozen=True)
class SynapseLayout(Layout[int, None]):
    """BTCV as distributed: `int16` volumes in HU and `uint8` label maps.

    Directory tree::

        out/RawData/Training/img/img0001.nii.gz
        out/RawData/Training/label/label0001.nii.gz

    Args:
        volumes: How many, at most 30; fewer are taken from both sides of TransUNet's split, 2 test volumes to 3
            others, so that either side has some from 2 volumes on; from 5 on, some train and some validate.
        size_px: Width and height of the slices, at least 64.

    Raises:
        ValueError: If a parameter is out of its range.
    """

    name: ClassVar[str] = "synapse"
    version: ClassVar[int] = 1
    own_files: ClassVar[re.Pattern[str]] = re.compile(rf"{_FOLDER}/(img/img|label/label)\d{{4}}\.nii\.gz")

    volumes: int = 30
    size_px: int = 144

    def __post_init__(self) -> None:
        """Refuse parameters out of their range."""
        super().__post_init__()
        if self.volumes > len(CASE_NUMBERS):
            raise ValueError(f"volumes must be at most {len(CASE_NUMBERS)}, as in the data set, got {self.volumes}")
        if self.size_px < 64:
            raise ValueError(f"size_px must be at least 64 (the adrenal glands vanish below), got {self.size_px}")

    def folders(self) -> list[str]:
        """See `Layout.folders`."""
        return [f"{_FOLDER}/img", f"{_FOLDER}/label"]

    def jobs(self) -> list[int]:
        """The numbers of the volumes."""
        return list(case_numbers(self.volumes))

    def size_of(self, job: int) -> int:
        """One volume."""
        return 1

    def make(self, job: int) -> Made[None]:
        """Draw a volume."""
        image, labels, affine = draw_volume(job, self.seed, self.size_px)
        files = {
            f"{_FOLDER}/img/img{job:04d}.nii.gz": encode_nifti(image, affine),
            f"{_FOLDER}/label/label{job:04d}.nii.gz": encode_nifti(labels, affine),
        }
        return Made(files, None)

    def finish(self, records: list[None]) -> tuple[Mapping[str, bytes], dict[str, Any]]:
        """Nothing speaks of all volumes."""
        return {}, {"items": {"volumes": self.volumes}}


def case_numbers(count: int) -> tuple[int, ...]:
    """Return the numbers of the first `count` volumes, in order (see `SynapseLayout`)."""
    test = min(max(round(0.4 * count), 1), len(_TEST_NUMBERS)) if count > 1 else 0
    others = [number for number in CASE_NUMBERS if number not in (*_TEST_NUMBERS, *_VALIDATION_NUMBERS)]
    for index, number in enumerate(_VALIDATION_NUMBERS):
        others.insert(6 * index + 1, number)
    return tuple(sorted([*_TEST_NUMBERS[:test], *others[: count - test]]))


def draw_volume(
    number: int, seed: int, size_px: int
) -> tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]:
    """Draw one patient.

    Args:
        number: Of the volume, 1 to 40.
        seed: Seed of the data set.
        size_px: Width and height of the slices.

    Returns:
        HU and labels, shape `(I, J, K)`, and their affine to RAS coordinates in mm. The voxels of odd numbers lie
        from left to right and from back to front (RAS), those of even ones the other way round (LPS), so that a
        reader has to go by the affine.
    """
    words = (seed, number)
    rng = Streams(words)("acquisition")
    person = Person(Streams((*words, 0)))
    gallbladder = bool(rng.random() >= _NO_GALLBLADDER)
    pixel_mm = round(float(rng.uniform(375, 420)) / size_px, 3)
    unit_mm = 0.5 * size_px * pixel_mm
    step_mm = round(2 * float(rng.uniform(5.0, 6.0))) / 2
    bottom, top = float(rng.uniform(-0.36, -0.28)), float(rng.uniform(0.62, 0.70))
    heights = np.arange(bottom, top, step_mm / unit_mm)
    noise = NOISE_HU["none"] * float(rng.uniform(0.8, 1.2))
    images, labels = [], []
    for place, height in enumerate(heights.tolist()):
        canvas = draw_slice(person, size_px, height, gallbladder=gallbladder)
        scanned = scan(canvas.image, SliceStreams((*words, 1), place=place), noise)
        images.append(np.rint(np.clip(scanned, -1024, 3071)).astype(np.int16))
        labels.append(canvas.labels)
    scale = np.array([-pixel_mm, -pixel_mm, step_mm])  # columns to the left, rows to the back, slices upwards
    image, label = np.stack(images).transpose(2, 1, 0), np.stack(labels).transpose(2, 1, 0)
    if number % 2:
        image, label, scale = image[::-1, ::-1], label[::-1, ::-1], np.abs(scale)
    affine = np.diag([*scale, 1.0])
    middle = (np.array(image.shape) - 1) / 2
    affine[:3, 3] = rng.uniform(-15, 15, 3) - scale * middle
    return image, label, affine
