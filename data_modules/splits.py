"""What every data module shares: the splits of a stage, limits, seeds, loaders and the summary."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from data_modules.cores import usable_cores
from data_modules.loading import (
    CaseSampler,
    EpochDataLoader,
    EpochDataset,
    EpochRandomSampler,
    end_with_the_main_process,
)
from data_modules.screening import NamedT, select_by_hash
from medzeroseg.imaging import InputError

Split = Literal["train", "val", "test"]
BadInput = Literal["error", "skip"]
Part = Literal["train", "val", "test", "predict"]
"""A split, or the test split as prediction sees it, where that is another thing (cases without a reference)."""

DatasetT = TypeVar("DatasetT", bound=EpochDataset[Any])

log = logging.getLogger(__name__)


class SplitDataModule(LightningDataModule, ABC, Generic[DatasetT]):
    """Up to three splits of one dataset, each indexed once, when a stage needs it.

    Bases: `ImageTextDataModule` (its unit is the pair), `SegmentationDataModule` (its unit is the case).
    """

    unit: ClassVar[str]
    """What a limit counts, in the singular: "pair"."""
    row: ClassVar[str]
    """What a dataset holds, in the singular: "slice"."""
    parts_of_stage: ClassVar[Mapping[str | None, tuple[Part, ...]]] = {
        "fit": ("train", "val"),
        "validate": ("val",),
        "test": ("test",),
        "predict": ("test",),
        None: ("train", "val", "test"),
    }

    def __init__(
        self,
        root: Path | str,
        *,
        limits: Mapping[Split, int | None],
        batch_size: int,
        eval_batch_size: int | None = None,
        num_workers: int | None = None,
        seed: int = 0,
        image_size_px: int = 224,
        drop_last: bool = True,
        pin_memory: bool | None = None,
        persistent_workers: bool = True,
        corrupt: BadInput = "error",
        selection_seed: int = 0,
    ) -> None:
        """Set up the module; the disk is not touched before `prepare_data` and `setup`.

        Args:
            root: The dataset's folder.
            limits: Split to the most pairs or cases used of it; None for all.
            batch_size: Training rows a batch and process.
            eval_batch_size: Rows a batch in validation, test and prediction; by default `batch_size`.
            num_workers: Processes that read; by default the usable cores less one, 8 at most.
            seed: Seed of the shuffling and of the augmentation.
            image_size_px: Side of the images when no model is attached.
            drop_last: Leave out an epoch's last, short training batch: it would have fewer negatives, and batch
                statistics of few images.
            pin_memory: Page-locked batches for faster copies to a GPU; by default when there is one.
            persistent_workers: Keep the worker processes between epochs.
            corrupt: "error" stops at the first image that cannot be read; "skip" decodes every image at setup,
                in parallel, leaves out those that fail and reports how many.
            selection_seed: Seed of which pairs or cases a limit keeps; apart from `seed`, so that runs with
                different seeds are compared on the same ones.

        Raises:
            ValueError: A number is out of range; names the argument.
        """
        super().__init__()
        at_least_one: dict[str, int | None] = {
            "batch_size": batch_size,
            "eval_batch_size": eval_batch_size,
            "image_size_px": image_size_px,
        }
        at_least_one |= {f"max_{split}_{self.unit}s": limit for split, limit in limits.items()}
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
        self.selection_seed = selection_seed
        self.limits = dict(limits)
        self.datasets: dict[Part, DatasetT] = {}
        self.skipped: dict[Part, dict[str, int]] = {}
        self._train_loader: EpochDataLoader[Any] | None = None
        self._resume_from: dict[str, Any] = {}

    @property
    def title(self) -> str:
        """The dataset's name in messages."""
        return type(self).__name__.removesuffix("DataModule")

    @abstractmethod
    def make_dataset(self, part: Part, skipped: dict[str, int]) -> DatasetT:
        """Index one part.

        Args:
            part: Which.
            skipped: Gets what was left out: reason to how many.

        Raises:
            InputError: It is missing or empty, or holds bad input that is to be an error.
        """

    @abstractmethod
    def collate(self) -> Callable[[Any], dict[str, Any]]:
        """Give what makes a batch of items, in the worker processes."""

    @abstractmethod
    def summary(self, part: Part) -> str:
        """Say how much a part holds: "8 pairs, 7 distinct captions"."""

    @abstractmethod
    def case_of_row(self, part: Part) -> npt.NDArray[np.int32]:
        """Say which rows of a part one process must evaluate together: (N,) numbers of cases, rising from 0."""

    def setup(self, stage: str | None = None) -> None:
        """Index the splits of a stage (each once) and log a summary.

        Args:
            stage: "fit", "validate", "test", "predict", or None for all splits.

        Raises:
            InputError: A split is missing or empty, or holds bad input that is to be an error.
        """
        new = [part for part in self.parts_of_stage[stage] if part not in self.datasets]
        for part in new:
            skipped: dict[str, int] = {}
            self.datasets[part] = self.make_dataset(part, skipped)
            self.skipped[part] = {reason: count for reason, count in skipped.items() if count}
        if new:
            log.info(self.describe())

    def limited(self, split: Split, found: list[NamedT], skipped: Mapping[str, int]) -> list[NamedT]:
        """Apply the split's limit to what was found.

        Raises:
            InputError: Nothing was found.
        """
        if not found:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in skipped.items() if count)
            raise InputError(
                f"{self.title}: no usable {self.unit} in the {split} split under {self.root}"
                + (f" (left out: {reasons})" if reasons else "")
            )
        return select_by_hash(found, self.limits[split], self.selection_seed)

    def train_dataloader(self) -> DataLoader[Any]:
        """Make shuffled training batches.

        Raises:
            InputError: The split has too few rows for one batch.
        """
        dataset = self.datasets["train"]
        rank, ranks = self._rank_and_ranks()
        if self.drop_last and len(dataset) < self.batch_size * ranks:
            raise InputError(
                f"{self.title}: the train split has {len(dataset)} {self.row}s, fewer than one batch of "
                f"{self.batch_size} on each of {ranks} process(es); set batch_size to "
                f"{max(1, len(dataset) // ranks)} or less"
            )
        sampler = EpochRandomSampler(dataset, self.seed, rank, ranks, self.drop_last)
        self._train_loader = EpochDataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=self.drop_last,
            **self._loader_options(),
        )
        if self._resume_from:
            self._train_loader.load_state_dict(self._resume_from)
        return self._train_loader

    def state_dict(self) -> dict[str, Any]:
        """Say where the training stands in its epoch; Lightning puts it in checkpoints."""
        return {} if self._train_loader is None else self._train_loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there.

        Lightning asks the loader itself, too, but not where the optimizer's schedule has asked for the number of steps
        (`Trainer.estimated_stepping_batches`): then it has made the loader before it reads the checkpoint.
        """
        self._resume_from = dict(state_dict)
        if self._train_loader is not None:
            self._train_loader.load_state_dict(self._resume_from)

    def val_dataloader(self) -> DataLoader[Any]:
        """Make validation batches in the dataset's order."""
        return self._eval_dataloader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """Make test batches in the dataset's order."""
        return self._eval_dataloader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """Make batches of the test split in the dataset's order."""
        return self._eval_dataloader(*self.parts_of_stage["predict"])

    def reading(self, pid: int) -> str | None:
        """What one of the loaders' worker processes is reading, or was when it died; None if nobody knows."""
        found = (dataset.reading(pid) for dataset in self.datasets.values())
        return next((what for what in found if what is not None), None)

    def describe(self) -> str:
        """Summarise the splits that are set up, and what was left out and why."""
        parts = []
        for part in self.datasets:
            left_out = [f", left out {count:,} {reason}" for reason, count in self.skipped[part].items()]
            parts.append(f"{part} {self.summary(part)}" + "".join(left_out))
        return f"{self.title} at {self.root}: " + ("; ".join(parts) or "not set up yet") + "."

    def _eval_dataloader(self, part: Part) -> DataLoader[Any]:
        dataset = self.datasets[part]
        # No row twice, whatever the number of processes. Lightning's own sampler fills up with repeated ones.
        sampler = CaseSampler(dataset, self.case_of_row(part), *self._rank_and_ranks())
        return DataLoader(dataset, batch_size=self.eval_batch_size, sampler=sampler, **self._loader_options())

    def _rank_and_ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _loader_options(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "worker_init_fn": end_with_the_main_process,
            "collate_fn": self.collate(),
            "pin_memory": torch.cuda.is_available() if self.pin_memory is None else self.pin_memory,
            "persistent_workers": self.persistent_workers and self.num_workers > 0,
            # Its own generator: drawing from the global one would let more validation change the training.
            "generator": torch.Generator().manual_seed(self.seed),
        }
