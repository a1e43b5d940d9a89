"""The data module that all image-text sets share: pairs, captions, the model's preprocessing."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_modules.pairs import (
    ImageTextCollate,
    ImageTextDataset,
    ImageTextRecord,
    ImageTransform,
    SquareResize,
    Tokenizer,
)
from data_modules.screening import some, without_unreadable
from data_modules.splits import BadInput, Part, Split, SplitDataModule
from data_modules.windows import Windows
from medzeroseg.imaging import InputError

__all__ = ["BadInput", "ImageTextDataModule", "Split", "SplitIndex"]


@dataclass
class SplitIndex:
    """The pairs found for one split, and what was left out.

    Attributes:
        records: The pairs in a fixed order.
        skipped: Reason -> how many, for the summary ("captions without an image": 12).
    """

    records: list[ImageTextRecord]
    skipped: dict[str, int] = field(default_factory=dict)


class ImageTextDataModule(SplitDataModule[ImageTextDataset]):
    """Image-text pairs in three splits; a subclass says which pairs there are (`index_split`).

    The task hands over the model's preprocessing and tokenizer with `attach_model` (in its `setup` hook,
    which runs after this module's). Without them batches hold plainly resized images in [0, 1] and no
    `tokens`. Batch keys: see `ImageTextCollate`.
    """

    unit = row = "pair"

    def __init__(
        self,
        root: Path | str,
        *,
        batch_size: int = 64,
        empty_caption: BadInput = "skip",
        windows: Windows | None = None,
        max_train_pairs: int | None = None,
        max_val_pairs: int | None = None,
        max_test_pairs: int | None = None,
        **options: Any,  # noqa: ANN401 - the base's arguments; the command line reads their types there
    ) -> None:
        """Set up the module; see `SplitDataModule` for the arguments not listed.

        Args:
            root: The dataset's folder.
            batch_size: Training pairs a batch and process.
            empty_caption: What to do with pairs whose caption is empty: leave out and report, or stop.
            windows: Take windows of the training pictures and name what they show, beside the pairs; for sets that
                know structures by name and place. None for none.
            max_train_pairs: Use at most so many training pairs.
            max_val_pairs: Use at most so many validation pairs.
            max_test_pairs: Use at most so many test pairs.
            **options: Passed on.

        Raises:
            ValueError: A number is out of range; names the argument.
        """
        super().__init__(
            root,
            limits={"train": max_train_pairs, "val": max_val_pairs, "test": max_test_pairs},
            batch_size=batch_size,
            **options,
        )
        self.empty_caption = empty_caption
        self.windows = windows
        self.train_transform: ImageTransform = SquareResize(self.image_size_px)
        self.eval_transform: ImageTransform = SquareResize(self.image_size_px)
        self.window_transform: ImageTransform = SquareResize(windows.size_px if windows else 1)
        self.tokenizer: Tokenizer | None = None

    @abstractmethod
    def index_split(self, split: Split) -> SplitIndex:
        """Find the pairs of a split without decoding pictures.

        Captions may be empty and limits are not applied: `setup` does both.

        Raises:
            InputError: The split is not there; says what is missing, how to get it and its terms.
        """

    def attach_model(
        self,
        train_transform: ImageTransform,
        eval_transform: ImageTransform,
        tokenizer: Tokenizer | None,
        window_transform: ImageTransform | None = None,
    ) -> None:
        """Use a model's own preprocessing and tokenizer; call it before the loaders are made.

        Args:
            train_transform: PIL picture (RGB) to float (3, H, W), may be random.
            eval_transform: The same for validation, test and prediction.
            tokenizer: B captions to ids (B, L), int64.
            window_transform: The same for windows, which come at their size (`windows.size_px`).
        """
        self.train_transform, self.eval_transform, self.tokenizer = train_transform, eval_transform, tokenizer
        self.window_transform = window_transform or self.window_transform
        for part, dataset in self.datasets.items():
            dataset.transform = train_transform if part == "train" else eval_transform
            dataset.window_transform = self.window_transform

    def make_dataset(self, part: Part, skipped: dict[str, int]) -> ImageTextDataset:
        """Index the pairs of a split."""
        split: Split = "test" if part == "predict" else part
        index = self.index_split(split)
        skipped |= index.skipped
        records = self._without_empty_captions(split, index.records, skipped)
        if self.corrupt == "skip":
            records = without_unreadable(records, skipped)
        records = self.limited(split, records, skipped)
        if part != "train":
            return ImageTextDataset(records, self.eval_transform, seed=self.seed)
        if self.windows is not None and not any(record.structures for record in records):
            raise InputError(
                f"{self.title}: windows were asked for, but this set knows no structures by name and place; "
                "set data.init_args.windows and model.init_args.window_loss to null"
            )
        dataset = ImageTextDataset(records, self.train_transform, seed=self.seed, windows=self.windows)
        dataset.window_transform = self.window_transform
        return dataset

    def collate(self) -> Callable[[Any], dict[str, Any]]:
        """Make batches of pairs; tokenise in the workers."""
        return ImageTextCollate(self.tokenizer)

    def case_of_row(self, part: Part) -> npt.NDArray[np.int32]:
        """Number the batches of evaluation: the same pairs whatever the number of processes, if that is not too high.

        Where there are fewer batches than processes they are made smaller.
        """
        rows, (_, ranks) = len(self.datasets[part]), self._rank_and_ranks()
        return np.arange(rows, dtype=np.int32) // min(self.eval_batch_size, max(1, rows // ranks))

    def case_ids(self, split: Split) -> list[str]:
        """Name the cases of a split that is set up, in the order to which a batch's `index` refers."""
        return [record.case_id for record in self.datasets[split].records]

    def named_pictures(self, split: Split) -> list[ImageTextRecord]:
        """Index a split if it is not, and list its pairs whose structures are known by name and place.

        For scoring maps: `structures` says where each is. Batches never hold label maps.

        Raises:
            InputError: As `setup`.
        """
        if split not in self.datasets:
            self.setup({"train": "fit", "val": "validate", "test": "test"}[split])
        return [record for record in self.datasets[split].records if record.structures is not None]

    def summary(self, part: Part) -> str:
        """Count pairs and distinct captions."""
        dataset = self.datasets[part]
        return f"{len(dataset):,} pairs, {len(set(dataset.text_ids)):,} distinct captions"

    def _without_empty_captions(
        self, split: Split, records: list[ImageTextRecord], skipped: dict[str, int]
    ) -> list[ImageTextRecord]:
        empty = [record.case_id for record in records if not record.caption]
        if not empty:
            return records
        if self.empty_caption == "error":
            raise InputError(
                f"{self.title}: {len(empty)} caption(s) of the {split} split under {self.root} are empty "
                f"({some(empty)}); fill or remove them, or leave them out with empty_caption=skip"
            )
        skipped["empty captions"] = len(empty)
        return [record for record in records if record.caption]
