"""Image-text pairs: the record, the dataset over records, and the collation into batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, Protocol, TypedDict

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from data_modules.loading import EpochDataset, stack_images
from data_modules.seeding import seeded_for, seeded_torch
from data_modules.windows import NamedStructures, Windows
from medzeroseg.imaging import InputError, read_picture

ImageTransform = Callable[[Image.Image], Tensor]
"""The model's preprocessing: a PIL picture (mode RGB or L) to a float tensor (3, H, W)."""
Tokenizer = Callable[[list[str]], Tensor]
"""B captions to token ids, shape (B, L), int64."""


class ImageSource(Protocol):
    """Where the picture of a pair comes from; light enough to be copied to every worker process."""

    def read(self) -> Image.Image:
        """Decode the picture, mode RGB or L; raises `InputError` naming the file when that fails."""
        ...


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture in a PNG, JPEG or similar file."""

    path: Path

    def read(self) -> Image.Image:
        """Decode the file, mode RGB, or L where it is grey."""
        return read_picture(self.path, keep_grey=True)


@dataclass(frozen=True, slots=True)
class ImageTextRecord:
    """One image-text pair before its picture is read.

    Attributes:
        case_id: The pair's name in the dataset, unique within a split; named in errors and tables.
        caption: The text, already tidied.
        source: Reads the picture.
        structures: What is known by name in the picture, and where; None where nothing is.
    """

    case_id: str
    caption: str
    source: ImageSource
    structures: NamedStructures | None = None


class ImageTextItem(TypedDict):
    """One pair as the dataset gives it."""

    image: Tensor
    text: str
    text_id: int
    case_id: str
    index: int
    windows: NotRequired["WindowItem"]


class WindowItem(TypedDict):
    """The windows of one pair's picture."""

    images: list[Tensor]
    kind: str
    shows: list[tuple[str, ...]]
    lacks: list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class SquareResize:
    """The plain preprocessing used when no model is attached: (3, size, size), values in [0, 1]."""

    size_px: int

    def __call__(self, picture: Image.Image) -> Tensor:
        """Resize (bicubic, the aspect ratio is not kept) and scale."""
        resized = picture.convert("RGB").resize((self.size_px, self.size_px), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(resized)).permute(2, 0, 1).float().div_(255)


class ImageTextDataset(EpochDataset[ImageTextItem]):
    """Image-text pairs read from records on demand.

    The transform's random numbers are seeded from (`seed`, epoch, case id): an item's augmentation is the
    same whatever the batch size, the number of workers and ranks, and whether the run was resumed.
    """

    def __init__(
        self,
        records: Sequence[ImageTextRecord],
        transform: ImageTransform,
        *,
        seed: int = 0,
        windows: Windows | None = None,
    ) -> None:
        """Hold the records and number their captions.

        Args:
            records: The pairs; their order is the dataset's.
            transform: Preprocessing of each picture.
            seed: Seed of the transform's random numbers.
            windows: Take windows of the pictures, too, of those whose structures are known.
        """
        super().__init__(seed)
        self.records = list(records)
        self.transform = transform
        self.windows = windows
        self.window_transform: ImageTransform = SquareResize(windows.size_px if windows else 1)
        numbers: dict[str, int] = {}
        self.text_ids = [numbers.setdefault(record.caption, len(numbers)) for record in self.records]

    def __len__(self) -> int:
        """Count the pairs."""
        return len(self.records)

    def name_of(self, index: int) -> str:
        """Give the pair's case id and, where it is one file, its path."""
        record = self.records[index]
        return f"case {record.case_id}" + (f" ({path})" if (path := getattr(record.source, "path", None)) else "")

    def __getitem__(self, index: int) -> ImageTextItem:
        """Read one pair.

        Args:
            index: Position in the dataset, 0..len-1.

        Returns:
            `image` (3, H, W) float, `text`, `text_id` (equal exactly for equal captions of this dataset),
            `case_id` and `index`; and `windows` where they are taken.

        Raises:
            InputError: The picture or its label map cannot be read; names its file and case id.
        """
        record = self.records[index]
        try:
            picture = record.source.read()
            windows = self._windows(record, picture)
        except InputError as error:
            raise InputError(f"case {record.case_id}: {error}") from error
        with seeded_for(self.transform, f"{self.seed}/{self.epoch}/{record.case_id}"):
            image = self.transform(picture)
        item: ImageTextItem = {
            "image": image,
            "text": record.caption,
            "text_id": self.text_ids[index],
            "case_id": record.case_id,
            "index": index,
        }
        if windows is not None:
            item["windows"] = windows
        return item

    def _windows(self, record: ImageTextRecord, picture: Image.Image) -> WindowItem | None:
        if self.windows is None or record.structures is None:
            return None
        with seeded_torch(f"{self.seed}/{self.epoch}/{record.case_id}/windows"):
            taken = self.windows.take(picture, record.structures)
        return {
            "images": [self.window_transform(window.picture) for window in taken],
            "kind": record.structures.kind,
            "shows": [window.shows for window in taken],
            "lacks": [window.lacks for window in taken],
        }


@dataclass(frozen=True, slots=True)
class ImageTextCollate:
    """Makes a batch of items and tokenises its captions, inside the worker process.

    The batch holds `image` (B, 3, H, W) float, `text` list of B strings, `text_id` (B,) int64,
    `case_id` list of B strings, `index` (B,) int64, and `tokens` (B, L) int64 when there is a tokenizer. Of W windows
    it holds `window` (W, 3, S, S) float, `window_kind` list of W strings, `window_shows` and `window_lacks`, lists of
    W tuples of names; nothing of the kind where there are none.
    """

    tokenizer: Tokenizer | None = None

    def __call__(self, items: Sequence[ImageTextItem]) -> dict[str, Any]:
        """Collate B items.

        Raises:
            ValueError: The transform gave images of different shapes; names two of the cases.
        """
        texts = [item["text"] for item in items]
        batch: dict[str, Any] = {
            "image": stack_images([(item["case_id"], item["image"]) for item in items]),
            "text": texts,
            "text_id": torch.tensor([item["text_id"] for item in items]),
            "case_id": [item["case_id"] for item in items],
            "index": torch.tensor([item["index"] for item in items]),
        }
        if self.tokenizer is not None:
            batch["tokens"] = self.tokenizer(texts)
        windows = [item["windows"] for item in items if "windows" in item]
        if windows:
            batch["window"] = torch.stack([image for one in windows for image in one["images"]])
            batch["window_kind"] = [one["kind"] for one in windows for _ in one["images"]]
            batch["window_shows"] = [names for one in windows for names in one["shows"]]
            batch["window_lacks"] = [names for one in windows for names in one["lacks"]]
        return batch
