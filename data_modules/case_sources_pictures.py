"""Labelled pictures: with a picture of label ids, or with black-and-white masks painted over each other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_modules.cases import BACKGROUND, CaseArrays
from data_modules.label_ids import to_label_ids
from medzeroseg.imaging import InputError, read_image

MaskFiles = tuple[tuple[Path, int], ...]
"""Binary mask files and the label id of each."""

THRESHOLD = 127
"""Masks are white (255) inside; compression may have left other greys, which are settled before any resizing."""


@dataclass(frozen=True, slots=True)
class PicturePair:
    """A picture and a picture of label ids.

    Attributes:
        image: The picture; colour counts by its brightness.
        label: Grey or palette picture whose values are label ids; None without a reference.
        ignore: The value in it that stands for "unknown", if one does.
    """

    image: Path
    label: Path | None = None
    ignore: int | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Picture and label map."""
        return (self.image,) if self.label is None else (self.image, self.label)

    @property
    def has_reference(self) -> bool:
        """Whether there is a label map."""
        return self.label is not None

    def read(self) -> CaseArrays:
        """Decode both, (1, H, W); a picture has no spacing.

        Raises:
            InputError: A file is missing or damaged, the sizes differ, or the labels are no ids.
        """
        image = read_image(self.image).array
        mask = None
        if self.label is not None:
            mask = to_label_ids(_read_ids(self.label), self.label, self.ignore)[None]
            _require_size(self.image, image, self.label, mask)
        return CaseArrays(image, mask, None)


@dataclass(frozen=True, slots=True)
class PictureWithMasks:
    """A picture with one black-and-white picture for each label.

    Attributes:
        image: The picture; colour counts by its brightness.
        masks: White inside the structure; where they overlap, the later one counts.
        around: The label of what no mask covers; `cases.IGNORE` where that is not known to be background.
        threshold: Brighter values (0..255) are inside.
    """

    image: Path
    masks: MaskFiles
    around: int = BACKGROUND
    threshold: int = THRESHOLD

    @property
    def files(self) -> tuple[Path, ...]:
        """The picture and its masks."""
        return (self.image, *(path for path, _ in self.masks))

    @property
    def has_reference(self) -> bool:
        """Whether there is any mask."""
        return bool(self.masks)

    def read(self) -> CaseArrays:
        """Decode all, (1, H, W); a picture has no spacing.

        Raises:
            InputError: A file is missing, damaged or no mask, or the sizes differ.
        """
        image = read_image(self.image).array
        mask = np.full(image.shape, self.around, np.uint8) if self.masks else None
        for path, label in self.masks:
            inside = read_mask_picture(path, self.threshold)[None]
            _require_size(self.image, image, path, inside)
            if mask is not None:
                mask[inside] = label
        return CaseArrays(image, mask, None)


def read_mask_picture(path: Path, threshold: int = THRESHOLD) -> npt.NDArray[np.bool_]:
    """Read a black-and-white mask, (H, W): True where it is brighter than `threshold`.

    Raises:
        InputError: The file is missing or damaged, or its brightest value is neither 0 nor over `threshold`: masks of
            the values 0 and 1 would be read as empty.
    """
    grey = read_image(path).array[0]
    brightest = int(grey.max())
    if 0 < brightest <= threshold:
        raise InputError(
            f"{path}: a mask of the values 0 and 255 was expected, the brightest here is {brightest}; "
            "save it with 255 where the structure is"
        )
    inside: npt.NDArray[np.bool_] = grey > threshold
    return inside


def _read_ids(path: Path) -> npt.NDArray[Any]:
    volume = read_image(path)  # refuses what is damaged or too large
    if volume.rgb is None and not _has_palette(path):
        ids: npt.NDArray[Any] = volume.array[0]
        return ids
    with Image.open(path) as picture:
        if picture.mode != "P":
            raise InputError(
                f"{path}: a label map in colour; save it as grey or palette PNG whose values are the label ids"
            )
        return np.asarray(picture)


def _has_palette(path: Path) -> bool:
    with Image.open(path) as picture:
        return picture.mode == "P"


def _require_size(image_path: Path, image: npt.NDArray[Any], mask_path: Path, mask: npt.NDArray[Any]) -> None:
    if mask.shape != image.shape:
        raise InputError(
            f"{mask_path}: the mask has {mask.shape[2]} x {mask.shape[1]} pixels, its image {image_path} "
            f"{image.shape[2]} x {image.shape[1]}; export the mask again in the size of the image"
        )
