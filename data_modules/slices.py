"""2-D slices of labelled cases: where they are read, the dataset over them, and the collation into batches."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, Protocol, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from data_modules.cases import CaseSource, LabelCheck, SegmentationCase
from data_modules.loading import EpochDataset, stack_images
from data_modules.pairs import ImageTransform
from data_modules.seeding import seeded_for, stable_hash
from data_modules.slice_cache_entry import CachedCase
from medzeroseg.imaging import InputError, Window, square_picture

NO_LABEL = -1
"""What fills a batch's `mask` where a case has no reference (prediction only)."""

GreyImage = npt.NDArray[np.float32]
LabelMap = npt.NDArray[np.uint8]


class Augmentation(ABC):
    """Changes a training slice and its labels together."""

    @abstractmethod
    def __call__(self, image: GreyImage, mask: LabelMap, *, seed: int) -> tuple[GreyImage, LabelMap]:
        """Give another slice and its labels; the same for the same seed.

        Args:
            image: (H, W) float32 in [0, 1]; left as it is.
            mask: (H, W) uint8 label ids; left as they are.
            seed: All randomness comes from it: the dataset's seed, the epoch, the case and the slice are in it.
        """


@dataclass(frozen=True, slots=True)
class SliceArrays:
    """One slice, windowed.

    Attributes:
        image: (H, W) float32 in [0, 1].
        mask: (H, W) uint8 label ids, or None without a reference.
        spacing_mm: (between slices, between rows, between columns); None where the format lost it.
    """

    image: GreyImage
    mask: LabelMap | None
    spacing_mm: tuple[float, float, float] | None


class SliceReader(Protocol):
    """Reads the slices of one case; light enough to be copied to every worker process."""

    @property
    def slice_count(self) -> int:
        """The number of slices."""
        ...

    def read_slice(self, index: int) -> SliceArrays:
        """Read one; raises `InputError` when that fails."""
        ...


@dataclass(frozen=True, slots=True)
class CachedReader:
    """Reads a volume's slices from the slice cache.

    Attributes:
        case: The decoded volume.
        window: Settled for the whole volume (`CachedCase.fixed`).
    """

    case: CachedCase
    window: Window

    @property
    def slice_count(self) -> int:
        """The number of slices."""
        return self.case.shape[0]

    def read_slice(self, index: int) -> SliceArrays:
        """Copy one slice out of the mapped volume."""
        image, mask = self.case.arrays()
        grey = self.window.apply(image[index])
        return SliceArrays(grey, None if mask is None else np.array(mask[index]), self.case.spacing_mm)


@dataclass(frozen=True, slots=True)
class PictureReader:
    """A case that is one picture, decoded when asked for: no cache would be faster than its own small file.

    Attributes:
        source: Decodes it.
        check: Refuses label ids that are not the dataset's.
        window: How its intensities become grey levels.
    """

    source: CaseSource
    check: LabelCheck
    window: Window

    @property
    def slice_count(self) -> int:
        """One."""
        return 1

    def read_slice(self, index: int) -> SliceArrays:
        """Decode the picture and its mask."""
        arrays = self.source.read()
        if len(arrays.image) != 1:
            raise InputError(f"{self.source.files[0]}: expected one picture, got {len(arrays.image)} slices")
        if arrays.mask is not None:
            self.check(self.source, np.flatnonzero(np.bincount(arrays.mask.ravel(), minlength=256)).tolist())
        grey = self.window.apply(arrays.image[0])
        return SliceArrays(grey, None if arrays.mask is None else arrays.mask[0], arrays.spacing_mm)


class SliceItem(TypedDict):
    """One slice as the dataset gives it; `native_image` and `native_mask` outside training only."""

    image: Tensor
    mask: Tensor
    spacing_mm: tuple[float, float, float]
    case_id: str
    slice_index: int
    slice_count: int
    index: int
    native_image: NotRequired[Tensor]
    native_mask: NotRequired[Tensor | None]


@dataclass(frozen=True, slots=True)
class SlicePreparation:
    """How a slice becomes the model's input.

    Attributes:
        transform: The model's preprocessing; must move no pixels beyond a resize, or the mask would not fit.
        side_px: Side of the square to which the slice is squashed before: maps go back to the native size by a plain
            resize, whatever a model does with pictures that are not square.
        augmentation: Applied before all that, in training; None outside.
    """

    transform: ImageTransform
    side_px: int
    augmentation: Augmentation | None = None


class SliceDataset(EpochDataset[SliceItem]):
    """The slices of labelled cases, case after case.

    Random numbers are seeded from (`seed`, epoch, case id, slice): an item's augmentation is the same whatever the
    batch size, the number of workers and ranks, and whether the run was resumed.
    """

    def __init__(
        self,
        cases: Sequence[SegmentationCase],
        readers: Sequence[SliceReader],
        preparation: SlicePreparation,
        *,
        seed: int = 0,
        native: bool = True,
        keep: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """Number the slices.

        Args:
            cases: The cases, in the dataset's order.
            readers: Reads each of them.
            preparation: How a slice becomes the model's input.
            seed: Seed of the augmentation.
            native: Whether items hold the slice and its mask in their own size, too.
            keep: The slices used of each case, rising; None for all.
        """
        super().__init__(seed)
        self.cases = list(cases)
        self.readers = list(readers)
        self.preparation = preparation
        self.native = native
        used = [range(reader.slice_count) for reader in readers] if keep is None else keep
        # Two arrays, not a list of tuples: workers would copy that page by page as they touch it.
        self.case_of_row = np.repeat(np.arange(len(used), dtype=np.int32), [len(part) for part in used])
        self.slice_of_row = np.concatenate([np.asarray(part, dtype=np.int32) for part in used] or [np.zeros(0, int)])

    def __len__(self) -> int:
        """Count the slices."""
        return len(self.case_of_row)

    def name_of(self, index: int) -> str:
        """Give the case id and the slice."""
        return f"case {self.cases[self.case_of_row[index]].case_id}, slice {self.slice_of_row[index]}"

    def __getitem__(self, index: int) -> SliceItem:
        """Read one slice.

        Args:
            index: Position in the dataset, 0..len-1.

        Raises:
            InputError: It cannot be read, or its labels are not the dataset's; names file and case id.
        """
        position, number = int(self.case_of_row[index]), int(self.slice_of_row[index])
        case, reader, how = self.cases[position], self.readers[position], self.preparation
        try:
            native = reader.read_slice(number)
        except InputError as error:
            raise InputError(f"case {case.case_id}: {error}") from error
        key = f"{self.seed}/{self.epoch}/{case.case_id}/{number}"
        grey, mask = native.image, native.mask
        if how.augmentation is not None and mask is not None:
            grey, mask = how.augmentation(grey, mask, seed=stable_hash(key))
        with seeded_for(how.transform, key):
            image = how.transform(square_picture(grey, how.side_px))
        item: SliceItem = {
            "image": image,
            "mask": _mask_of_size(mask, int(image.shape[1]), int(image.shape[2])),
            "spacing_mm": native.spacing_mm or (float("nan"),) * 3,
            "case_id": case.case_id,
            "slice_index": number,
            "slice_count": reader.slice_count,
            "index": index,
        }
        if self.native:
            item["native_image"] = torch.from_numpy(native.image)
            item["native_mask"] = None if native.mask is None else torch.from_numpy(native.mask)
        return item


@dataclass(frozen=True, slots=True)
class SliceCollate:
    """Makes a batch of slices, inside the worker process.

    The batch holds `image` (B, 3, H, W) float as the model wants it; `mask` (B, H, W) int64 label ids aligned with it
    (nearest neighbour; `cases.IGNORE` where unknown, `NO_LABEL` everywhere for a case without a reference);
    `spacing_mm` (B, 3) float: between slices, rows, columns of the native image, NaN where lost; `case_id` list of B
    strings; `slice_index`, `slice_count` (B,) int64: which slice of how many in the whole case; `index` (B,) int64:
    the row in the dataset. Outside training also `native_image`, list of B float32 (H0, W0) in [0, 1], windowed, and
    `native_mask`, list of B uint8 (H0, W0) or None. `label_names`, label id to structure, comes along where it
    is given.
    """

    label_names: Mapping[int, str] | None = None

    def __call__(self, items: Sequence[SliceItem]) -> dict[str, Any]:
        """Collate B items.

        Raises:
            ValueError: The transform gave images of different shapes; names two of the cases.
        """
        batch: dict[str, Any] = {
            "image": stack_images([(item["case_id"], item["image"]) for item in items]),
            "mask": torch.stack([item["mask"] for item in items]).long(),
            "spacing_mm": torch.tensor([item["spacing_mm"] for item in items], dtype=torch.float32),
            "case_id": [item["case_id"] for item in items],
            "slice_index": torch.tensor([item["slice_index"] for item in items]),
            "slice_count": torch.tensor([item["slice_count"] for item in items]),
            "index": torch.tensor([item["index"] for item in items]),
        }
        if self.label_names is not None:
            batch["label_names"] = dict(self.label_names)
        if "native_image" in items[0]:
            batch["native_image"] = [item["native_image"] for item in items]
            batch["native_mask"] = [item["native_mask"] for item in items]
        return batch


def _mask_of_size(mask: LabelMap | None, height: int, width: int) -> Tensor:
    if mask is None:
        return torch.full((height, width), NO_LABEL, dtype=torch.int16)
    if mask.shape != (height, width):
        mask = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    return torch.from_numpy(mask.astype(np.int16))
