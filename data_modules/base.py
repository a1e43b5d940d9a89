"""The data module that all image-text sets share: splits, bad input, batches, the model's preprocessing."""

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from data_modules.loading import EpochDataLoader, EpochRandomSampler
from data_modules.pairs import (
    ImageTextCollate,
    ImageTextDataset,
    ImageTextItem,
    ImageTextRecord,
    ImageTransform,
    SquareResize,
    Tokenizer,
)
from data_modules.screening import select_by_hash, some, usable_cores, without_unreadable
from medzeroseg.imaging import InputError

Split = Literal["train", "val", "test"]
BadInput = Literal["error", "skip"]

_SPLITS_OF_STAGE: dict[str | None, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
    None: ("train", "val", "test"),
}

log = logging.getLogger(__name__)


@dataclass
class SplitIndex:
    """The pairs found for one split, and what was left out.

    Attributes:
        records: The pairs in a fixed order.
        skipped: Reason -> how many, for the summary ("captions without an image": 12).
    """

    records: list[ImageTextRecord]
    skipped: dict[str, int] = field(default_factory=dict)


class ImageTextDataModule(LightningDataModule, ABC):
    """Image-text pairs in three splits; a subclass says which pairs there are (`index_split`).

    The task hands over the model's preprocessing and tokenizer with `attach_model` (in its `setup` hook,
    which runs after this module's). Without them batches hold plainly resized images in [0, 1] and no
    `tokens`. Batch keys: see `ImageTextCollate`.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        num_workers: int | None = None,
        seed: int = 0,
        image_size_px: int = 224,
        drop_last: bool = True,
        pin_memory: bool | None = None,
        persistent_workers: bool = True,
        corrupt: BadInput = "error",
        empty_caption: BadInput = "skip",
        max_train_pairs: int | None = None,
        max_val_pairs: int | None = None,
        max_test_pairs: int | None = None,
        selection_seed: int = 0,
    ) -> None:
        """Set up the module; the disk is not touched before `prepare_data` and `setup`.

        Args:
            root: The dataset's folder.
            batch_size: Training pairs a batch and process.
            eval_batch_size: Pairs a batch in validation, test and prediction; by default `batch_size`.
            num_workers: Processes that read and tokenise; by default the usable cores less one, 8 at most.
            seed: Seed of the shuffling and of the augmentation.
            image_size_px: Side of the images when no model is attached.
            drop_last: Leave out an epoch's last, short training batch: it would have fewer negatives.
            pin_memory: Page-locked batches for faster copies to a GPU; by default when there is one.
            persistent_workers: Keep the worker processes between epochs.
            corrupt: "error" stops at the first picture that cannot be read; "skip" decodes every picture at
                setup, in parallel, leaves out those that fail and reports how many.
            empty_caption: What to do with pairs whose caption is empty: leave out and report, or stop.
            max_train_pairs: Use at most so many training pairs.
            max_val_pairs: Use at most so many validation pairs.
            max_test_pairs: Use at most so many test pairs.
            selection_seed: Seed of which pairs a limit keeps; apart from `seed`, so that runs with different
                seeds are compared on the same pairs.

        Raises:
            ValueError: A number is out of range; names the argument.
        """
        super().__init__()
        limits: dict[Split, int | None]
        limits = {"train": max_train_pairs, "val": max_val_pairs, "test": max_test_pairs}
        at_least_one: dict[str, int | None] = {
            "batch_size": batch_size,
            "eval_batch_size": eval_batch_size,
            "image_size_px": image_size_px,
        }
        at_least_one |= {f"max_{split}_pairs": limit for split, limit in limits.items()}
        for name, value in at_least_one.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if num_workers is not None and num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more, got {num_workers}")
        self.root = Path(root).expanduser()
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or batch_size
        self.num_workers = min(8, usable_cores() - 1) if num_workers is None else num_workers
        self.seed = seed
        self.image_size_px = image_size_px
        self.drop_last = drop_last
        self.pin_memory = pin_memory
        self.persistent_workers = persistent_workers
        self.corrupt = corrupt
        self.empty_caption = empty_caption
        self.selection_seed = selection_seed
        self.limits = limits
        self.datasets: dict[Split, ImageTextDataset] = {}
        self.skipped: dict[Split, dict[str, int]] = {}
        self.train_transform: ImageTransform = SquareResize(image_size_px)
        self.eval_transform: ImageTransform = SquareResize(image_size_px)
        self.tokenizer: Tokenizer | None = None

    @property
    def title(self) -> str:
        """The dataset's name in messages."""
        return type(self).__name__.removesuffix("DataModule")

    @abstractmethod
    def index_split(self, split: Split) -> SplitIndex:
        """Find the pairs of a split without decoding pictures.

        Captions may be empty and limits are not applied: `setup` does both.

        Raises:
            InputError: The split is not there; says what is missing, how to get it and its terms.
        """

    def attach_model(
        self, train_transform: ImageTransform, eval_transform: ImageTransform, tokenizer: Tokenizer | None
    ) -> None:
        """Use a model's own preprocessing and tokenizer; call it before the loaders are made.

        Args:
            train_transform: PIL picture (RGB) to float (3, H, W), may be random.
            eval_transform: The same for validation, test and prediction.
            tokenizer: B captions to ids (B, L), int64.
        """
        self.train_transform, self.eval_transform, self.tokenizer = train_transform, eval_transform, tokenizer
        for split, dataset in self.datasets.items():
            dataset.transform = train_transform if split == "train" else eval_transform

    def setup(self, stage: str | None = None) -> None:
        """Index the splits of a stage (each once) and log a summary.

        Args:
            stage: "fit", "validate", "test", "predict", or None for all splits.

        Raises:
            InputError: A split is missing or empty, or holds bad input that is to be an error.
        """
        new = [split for split in _SPLITS_OF_STAGE[stage] if split not in self.datasets]
        for split in new:
            index = self.index_split(split)
            records = self._without_empty_captions(split, index.records, index.skipped)
            if self.corrupt == "skip":
                records = without_unreadable(records, index.skipped)
            records = select_by_hash(records, self.limits[split], self.selection_seed)
            if not records:
                raise InputError(f"{self.title}: no usable pair in the {split} split under {self.root}{_list(index)}")
            transform = self.train_transform if split == "train" else self.eval_transform
            self.datasets[split] = ImageTextDataset(records, transform, seed=self.seed)
            self.skipped[split] = {reason: count for reason, count in index.skipped.items() if count}
        if new:
            log.info(self.describe())

    def train_dataloader(self) -> DataLoader[ImageTextItem]:
        """Make shuffled training batches.

        Raises:
            InputError: The split has too few pairs for one batch.
        """
        dataset = self.datasets["train"]
        ranks = self.trainer.world_size if self.trainer is not None else 1
        if self.drop_last and len(dataset) < self.batch_size * ranks:
            raise InputError(
                f"{self.title}: the train split has {len(dataset)} pairs, fewer than one batch of "
                f"{self.batch_size} on each of {ranks} process(es); set batch_size to "
                f"{max(1, len(dataset) // ranks)} or less"
            )
        sampler = EpochRandomSampler(dataset, self.seed)
        return EpochDataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=self.drop_last,
            **self._loader_options(),
        )

    def val_dataloader(self) -> DataLoader[ImageTextItem]:
        """Make validation batches in the dataset's order."""
        return self._eval_dataloader("val")

    def test_dataloader(self) -> DataLoader[ImageTextItem]:
        """Make test batches in the dataset's order."""
        return self._eval_dataloader("test")

    def predict_dataloader(self) -> DataLoader[ImageTextItem]:
        """Make batches of the test split in the dataset's order."""
        return self._eval_dataloader("test")

    def case_ids(self, split: Split) -> list[str]:
        """Name the cases of a split that is set up, in the order to which a batch's `index` refers."""
        return [record.case_id for record in self.datasets[split].records]

    def describe(self) -> str:
        """Summarise the splits that are set up: pairs, distinct captions, what was left out and why."""
        parts = []
        for split, dataset in self.datasets.items():
            part = f"{split} {len(dataset):,} pairs, {len(set(dataset.text_ids)):,} distinct captions"
            for reason, count in self.skipped[split].items():
                part += f", left out {count:,} {reason}"
            parts.append(part)
        return f"{self.title} at {self.root}: " + ("; ".join(parts) or "not set up yet") + "."

    def _eval_dataloader(self, split: Split) -> DataLoader[ImageTextItem]:
        return DataLoader(
            self.datasets[split], batch_size=self.eval_batch_size, shuffle=False, **self._loader_options()
        )

    def _loader_options(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "collate_fn": ImageTextCollate(self.tokenizer),
            "pin_memory": torch.cuda.is_available() if self.pin_memory is None else self.pin_memory,
            "persistent_workers": self.persistent_workers and self.num_workers > 0,
            # Its own generator: drawing from the global one would let more validation change the training.
            "generator": torch.Generator().manual_seed(self.seed),
        }

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


def _list(index: SplitIndex) -> str:
    reasons = [f"{count:,} {reason}" for reason, count in index.skipped.items() if count]
    return f" (left out: {', '.join(reasons)})" if reasons else ""
