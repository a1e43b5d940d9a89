"""Shuffling and loading that depend on the seed and the epoch alone."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, RandomSampler

from data_modules.seeding import stable_hash

Item_co = TypeVar("Item_co", covariant=True)


class EpochDataset(Dataset[Item_co]):
    """A dataset of known length whose augmentation is seeded from (`seed`, epoch, the item's own name)."""

    def __init__(self, seed: int = 0) -> None:
        """Start at epoch 0.

        Args:
            seed: Seed of the augmentation's random numbers.
        """
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64)
        # In shared memory, so that workers which live on (`persistent_workers`) see it change.
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]

    @property
    def epoch(self) -> int:
        """The epoch that seeds the augmentation."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that seeds the augmentation, in this process and in its workers."""
        self._epoch.fill_(epoch)

    @abstractmethod
    def __len__(self) -> int:
        """Count the items."""


class EpochRandomSampler(RandomSampler):
    """Shuffles by (seed, epoch) alone, so that a resumed run sees the order that the unbroken one saw.

    Lightning calls `set_epoch` before each epoch. Under DDP it puts a `DistributedSampler` in this one's
    place, which it does with shuffling because this is a `RandomSampler`.
    """

    def __init__(self, dataset: EpochDataset[Any], seed: int) -> None:
        """Shuffle a dataset.

        Args:
            dataset: What to shuffle.
            seed: Chooses the orders of all epochs.
        """
        super().__init__(dataset)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        """Give each position once, in the epoch's order."""
        generator = torch.Generator().manual_seed(stable_hash(f"{self.seed}/{self.epoch}"))
        yield from torch.randperm(self.num_samples, generator=generator).tolist()


class CaseSampler(DistributedSampler[Item_co]):
    """Gives a rank whole cases, slice after slice, in the dataset's order; no case twice, none cut in two.

    Being a `DistributedSampler`, it is left in place by Lightning, whose own would deal the slices out in turn. Ranks
    may get different numbers of rows: evaluation must not synchronise batch by batch.
    """

    def __init__(self, dataset: Dataset[Item_co], case_of_row: npt.NDArray[np.int32], rank: int, ranks: int) -> None:
        """Choose the rank's cases.

        Args:
            dataset: The slices.
            case_of_row: (N,) which case each row belongs to, rising.
            rank: This process, 0..ranks-1.
            ranks: How many processes share the work.
        """
        super().__init__(dataset, num_replicas=ranks, rank=rank, shuffle=False)
        self.rows: list[int] = np.flatnonzero(case_of_row % ranks == rank).tolist()

    def __iter__(self) -> Iterator[int]:  # type: ignore[override]  # torch's stubs say items, it gives positions
        """Give the rank's rows."""
        return iter(self.rows)

    def __len__(self) -> int:
        """Count them."""
        return len(self.rows)


class EpochDataLoader(DataLoader[Item_co]):
    """A training loader that tells its dataset the sampler's epoch, which seeds the augmentation.

    An epoch starts with its first batch, not with `iter`: when a run is resumed, Lightning calls `iter`
    before it announces the epoch to the sampler (`set_epoch`), and workers would begin to read in another
    epoch's order.
    """

    dataset: EpochDataset[Item_co]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator can wait
        """Give the batches of an epoch; sampler and workers are told before the first item is read."""
        self.dataset.set_epoch(getattr(self.sampler, "epoch", 0))
        yield from super().__iter__()


def stack_images(images: Sequence[tuple[str, Tensor]]) -> Tensor:
    """Stack the images of a batch.

    Args:
        images: The case id and the image (3, H, W) of each item.

    Returns:
        (B, 3, H, W).

    Raises:
        ValueError: The transform gave images of different shapes; names two of the cases.
    """
    first_id, first = images[0]
    for case_id, image in images:
        if image.shape != first.shape:
            raise ValueError(
                f"the image transform must give one shape: case {first_id} became {tuple(first.shape)}, "
                f"case {case_id} {tuple(image.shape)}"
            )
    return torch.stack([image for _, image in images])
