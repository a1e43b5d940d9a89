"""Windows of a picture whose structures are known by name, and the names of what each window shows.

Figures come in fields of view that differ, and a caption names what its own shows. Pictures of one kind that are all
taken alike never do that: every chest X-ray shows the lungs, so nothing tells where they are. Windows make up for it.
The text of a window comes from label maps, as the captions of the sets that use them do; no label map is given to a
model.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from data_modules.cases import IGNORE
from medzeroseg.imaging import InputError

LabelMap = npt.NDArray[np.uint8]


class LabelSource(Protocol):
    """Where the label map of a picture comes from; light enough to be copied to every worker process."""

    def read_label(self) -> LabelMap:
        """Decode it, (H, W) as the picture; raises `InputError` naming the file when that fails."""
        ...


@dataclass(frozen=True, slots=True)
class LabelPicture:
    """A label map in a picture whose pixel values are the label ids."""

    path: Path

    def read_label(self) -> LabelMap:
        """Decode the file, palette indices as they are.

        Raises:
            InputError: It is missing or damaged.
        """
        try:
            with Image.open(self.path) as picture:
                return np.asarray(picture, dtype=np.uint8)
        except OSError as error:
            raise InputError(f"{self.path}: the label map cannot be read ({error})") from error


@dataclass(frozen=True, slots=True)
class NamedStructures:
    """The structures that are known by name in a picture.

    Attributes:
        kind: What the picture is, in the words of prompts: "chest X-ray". Windows of different kinds are not compared.
        parts: Structure -> the label ids whose union it is. A structure that is missing here is unknown, not absent.
        labels: Where they are.
    """

    kind: str
    parts: Mapping[str, tuple[int, ...]]
    labels: LabelSource


@dataclass(frozen=True, slots=True)
class Window:
    """A window of a picture.

    Attributes:
        picture: `size_px` square.
        shows: Names of what it shows.
        lacks: Names of what it does not; what shows a little is in neither.
    """

    picture: Image.Image
    shows: tuple[str, ...]
    lacks: tuple[str, ...]


@dataclass(frozen=True)
class Windows:
    """How windows are taken.

    Args:
        size_px: Side of the windows given to the model.
        per_image: Windows of each picture.
        side: Least and largest side of a window, as a share of the picture's, in (0, 1].
        shown: Share of a window's area from which on a structure counts as shown.
        absent: Share of its area below which a structure counts as absent.
        brightness: Largest relative change of brightness, in [0, 1).

    Raises:
        ValueError: A number is out of its range.
    """

    size_px: int = 56
    per_image: int = 2
    side: tuple[float, float] = (0.12, 0.5)
    shown: float = 0.02
    absent: float = 0.0025
    brightness: float = 0.1

    def __post_init__(self) -> None:
        """Refuse numbers out of their range."""
        if self.size_px < 8 or self.per_image < 1:
            raise ValueError(f"size_px must be at least 8 and per_image at least 1: {self.size_px}, {self.per_image}")
        if not 0 < self.side[0] <= self.side[1] <= 1:
            raise ValueError(f"side must be an increasing pair in (0, 1], got {self.side}")
        if not 0 < self.absent <= self.shown < 1:
            raise ValueError(f"absent and shown must increase in (0, 1), got {self.absent} and {self.shown}")
        if not 0 <= self.brightness < 1:
            raise ValueError(f"brightness must be in [0, 1), got {self.brightness}")

    def take(self, picture: Image.Image, structures: NamedStructures) -> list[Window]:
        """Take windows at random places; the random numbers are torch's, which the dataset seeds for each item.

        Args:
            picture: The whole picture.
            structures: What is known of it.

        Raises:
            InputError: The label map cannot be read or has another size.
        """
        labels = structures.labels.read_label()
        if labels.shape != (picture.height, picture.width):
            raise InputError(
                f"the label map has {labels.shape[1]} x {labels.shape[0]} pixels, its picture "
                f"{picture.width} x {picture.height}"
            )
        label_picture = Image.fromarray(labels)
        return [self._window(picture, label_picture, structures) for _ in range(self.per_image)]

    def _window(self, picture: Image.Image, labels: Image.Image, structures: NamedStructures) -> Window:
        size, aspect, top, left, bright = torch.rand(5).tolist()
        side = self.side[0] + size * (self.side[1] - self.side[0])
        stretch = math.sqrt(0.85 + 0.3 * aspect)
        # a share of the shorter edge, so that a window keeps the picture's pixels square
        edge = side * min(picture.size)
        width, height = min(edge / stretch, picture.width), min(edge * stretch, picture.height)
        left, top = left * (picture.width - width), top * (picture.height - height)
        box = (left, top, left + width, top + height)
        square = (self.size_px, self.size_px)
        seen = picture.resize(square, Image.Resampling.BILINEAR, box=box)
        factor = 1 + self.brightness * (2 * bright - 1)
        shown_as = np.minimum(np.rint(np.arange(256) * factor), 255).astype(np.uint8)
        seen = Image.fromarray(shown_as[np.asarray(seen)])
        counts = np.bincount(
            np.asarray(labels.resize(square, Image.Resampling.NEAREST, box=box)).ravel(), minlength=IGNORE + 1
        )
        shares = {name: counts[list(ids)].sum() / self.size_px**2 for name, ids in structures.parts.items()}
        # what nobody has outlined may be anything
        unknown = counts[IGNORE] / self.size_px**2
        return Window(
            seen,
            tuple(name for name, share in shares.items() if share >= self.shown),
            tuple(name for name, share in shares.items() if share + unknown < self.absent),
        )
