"""Shuffling and loading that depend on the seed, the epoch and the position in it alone."""

import itertools
import multiprocessing
import os
import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import connection
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, get_worker_info

from data_modules.seeding import stable_hash
from medzeroseg.imaging import InputError

_WORKERS = 256  # more than a machine has cores for

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
        # Of each worker, its pid and the item that it is reading: what is known of it if it dies.
        self._reading = torch.full((_WORKERS, 2), -1, dtype=torch.int64)
        self._reading.share_memory_()  # type: ignore[no-untyped-call]

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

    @abstractmethod
    def name_of(self, index: int) -> str:
        """Name an item for a person: its case, and its file if that is known."""

    def __getitems__(self, indices: Sequence[int]) -> list[Item_co]:
        """Read the items of a batch; torch prefers this to reading them one by one.

        In a worker process, what is being read is noted for `reading`.
        """
        worker = get_worker_info()
        if worker is None:
            return [self[index] for index in indices]
        note = self._reading[worker.id % _WORKERS]
        note[0] = os.getpid()
        items = []
        for index in indices:
            note[1] = index
            items.append(self[index])
        note[1] = -1
        return items

    def reading(self, pid: int) -> str | None:
        """What a worker process is reading, or was when it died; None if it is none of this dataset's, or idle."""
        for worker, index in self._reading.tolist():
            if worker == pid and index >= 0:
                return self.name_of(index)
        return None


class EpochRandomSampler(DistributedSampler[Any]):
    """Shuffles by (seed, epoch) alone and deals the order out to the ranks, from any position on.

    A resumed run sees the order that the unbroken one saw. The rows that the ranks hold at a time are the same
    whatever their number: two ranks with batches of 4 see together what one with batches of 8 sees. Lightning calls
    `set_epoch` before each epoch, and leaves a `DistributedSampler` in its place.
    """

    def __init__(
        self, dataset: EpochDataset[Any], seed: int, rank: int = 0, ranks: int = 1, drop_last: bool = False
    ) -> None:
        """Shuffle a dataset.

        Args:
            dataset: What to shuffle.
            seed: Chooses the orders of all epochs.
            rank: This process, 0..ranks-1.
            ranks: How many processes share the work.
            drop_last: Leave out the rows that not all ranks would get one of; else the first rows fill them up.
        """
        super().__init__(dataset, num_replicas=ranks, rank=rank, seed=seed, drop_last=drop_last)
        self.first = 0
        """Rows of this rank that the next pass leaves out at its beginning."""

    def __iter__(self) -> Iterator[int]:
        """Give the rank's rows in the epoch's order."""
        generator = torch.Generator().manual_seed(stable_hash(f"{self.seed}/{self.epoch}"))
        order = torch.randperm(len(self.dataset), generator=generator).tolist()  # type: ignore[arg-type]  # it has one
        filled = itertools.islice(itertools.cycle(order), self.total_size)
        yield from itertools.islice(filled, self.rank + self.first * self.num_replicas, None, self.num_replicas)


class CaseSampler(DistributedSampler[Item_co]):
    """Gives a rank whole cases, row after row, in the dataset's order; no case twice, none cut in two.

    A case is what must stay together: the slices of a volume, or the pairs of an evaluation batch. Being a
    `DistributedSampler`, it is left in place by Lightning, whose own would deal the rows out in turn. Ranks may get
    different numbers of rows: evaluation must not synchronise batch by batch.
    """

    def __init__(self, dataset: Dataset[Item_co], case_of_row: npt.NDArray[np.int32], rank: int, ranks: int) -> None:
        """Choose the rank's cases.

        Args:
            dataset: The rows.
            case_of_row: (N,) which case each row belongs to: 0, 1, ..., rising.
            rank: This process, 0..ranks-1.
            ranks: How many processes share the work.

        Raises:
            InputError: There are fewer cases than ranks: one without any would leave the evaluation out, and the others
                would wait for it.
        """
        cases = int(case_of_row[-1]) + 1 if len(case_of_row) else 0
        if 0 < cases < ranks:
            raise InputError(
                f"{cases} case(s) to evaluate cannot be shared by {ranks} processes: use at most {cases} "
                "(make train GPUS=, --trainer.devices)"
            )
        super().__init__(dataset, num_replicas=ranks, rank=rank, shuffle=False)
        self.rows: list[int] = np.flatnonzero(case_of_row % ranks == rank).tolist()

    def __iter__(self) -> Iterator[int]:  # type: ignore[override]  # torch's stubs say items, it gives positions
        """Give the rank's rows."""
        return iter(self.rows)

    def __len__(self) -> int:
        """Count them."""
        return len(self.rows)


class EpochDataLoader(DataLoader[Item_co]):
    """A training loader that tells its dataset the sampler's epoch, and goes on in the middle of one.

    An epoch starts with its first batch, not with `iter`: when a run is resumed, Lightning calls `iter`
    before it announces the epoch to the sampler (`set_epoch`), and workers would begin to read in another
    epoch's order.

    `state_dict` and `load_state_dict` are Lightning's protocol: the position goes into checkpoints, and the rows before
    it are not read again. It is the same on all ranks.
    """

    dataset: EpochDataset[Item_co]
    sampler: EpochRandomSampler
    _given = 0
    _resume_at = (-1, 0)

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches were given."""
        return {"epoch": self.sampler.epoch, "batches": self._given}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let that epoch, once it is started, begin after those batches."""
        self._resume_at = state["epoch"], state["batches"]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator can wait
        """Give the batches of an epoch; sampler and workers are told before the first item is read."""
        epoch, batches = self._resume_at
        # An epoch that was finished, if only because Lightning limits its batches, is followed by another one.
        self._given = batches if epoch == self.sampler.epoch else 0
        self._resume_at = (-1, 0)
        self.sampler.first = self._given * cast(int, self.batch_size)
        self.dataset.set_epoch(self.sampler.epoch)
        for batch in super().__iter__():
            self._given += 1
            yield batch


def end_with_the_main_process(_worker: int) -> None:
    """Let a worker process end when the one that it reads for has, by SIGKILL even; a loader's `worker_init_fn`.

    torch's own watch compares the parent's pid with what it was when the worker began: too late where the main process
    was gone by then. And where workers come from a fork server (Python's default from 3.14), it is the server's, which
    lives as long as any worker does. Without this, both would stay for ever.
    """
    main = multiprocessing.parent_process()
    if main is not None:
        threading.Thread(target=_end_after, args=(main.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)


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
