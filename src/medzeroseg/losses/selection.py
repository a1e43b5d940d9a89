"""Which negatives are hard: how many each anchor keeps, and which."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from medzeroseg.losses.batch import EXCLUDED

T = TypeVar("T")

WORTH_A_THREAD = 2**18  # elements
GROUP = 16  # columns


@dataclass(frozen=True)
class HardSelection:
    """Keep only the hardest negatives of each anchor: a count, or a fraction of those it has.

    Attributes:
        fraction: in (0, 1]; an anchor with K negatives keeps ``ceil(fraction * K)``, at least one if it has
            any.
        count: if given, keeps ``min(count, K)`` instead.
    """

    fraction: float = 1.0
    count: int | None = None

    def most(self, negatives: int) -> int:
        """How many an anchor with ``negatives`` negatives keeps."""
        if self.count is not None:
            return min(self.count, negatives)
        return max(1, math.ceil(self.fraction * negatives - 1e-6))  # 0.1 * 30 is 3.0000000000000004

    def per_anchor(self, negatives: Tensor) -> Tensor:
        """:meth:`most` for a tensor of counts, ``(B,)`` long."""
        if self.count is not None:
            return negatives.clamp(max=self.count)
        kept = torch.ceil(self.fraction * negatives.double() - 1e-6).long()
        return kept.clamp(min=1).minimum(negatives)

    def is_few(self, candidates: int) -> bool:
        """Whether so few of ``candidates`` stay that gradients by only those are the cheaper way."""
        return 16 * self.most(candidates - 1) <= candidates

    def keeps_all(self) -> bool:
        """Whether nothing is dropped whatever the batch size."""
        return self.count is None and self.fraction >= 1.0


def hold_hardest_(similarity: Tensor, kept: Tensor) -> None:
    """Set all but the ``kept`` largest of each row to EXCLUDED, in place; exactly that many remain.

    Among equals at the boundary the first ones stay. The weights of the family grow with the similarity, so
    this is the order of the weighted logits too.

    Args:
        similarity: ``(T, M)``, contiguous.
        kept: ``(T,)`` long, each in [0, M]. Rows are treated in groups of the same number.
    """
    for count in torch.unique(kept).tolist():
        rows = (kept == count).nonzero().squeeze(1)
        if len(rows) == len(similarity):
            _hold(similarity, count)
        else:
            group = similarity[rows]
            _hold(group, count)
            similarity[rows] = group


def _hold(similarity: Tensor, count: int) -> None:
    candidates = similarity.shape[1]
    if count >= candidates:
        return
    if count == 0:
        similarity.fill_(EXCLUDED)
        return
    smallest_kept, largest_dropped = _around(similarity, count)
    tied = (smallest_kept == largest_dropped).nonzero().squeeze(1)
    if len(tied) > 0:
        rows = similarity[tied]
        equal = rows == smallest_kept[tied, None]
        room = count - (rows > smallest_kept[tied, None]).sum(1, keepdim=True)
        similarity[tied] = rows.masked_fill(equal & (equal.cumsum(1) > room), EXCLUDED)
    # A comparison and masked_fill_ would do the same, at ten times the price on a CPU. Next to EXCLUDED a
    # similarity is nothing, so adding it back leaves EXCLUDED what it is.
    similarity.sub_(smallest_kept[:, None])
    F.threshold(similarity, -torch.finfo(similarity.dtype).tiny, EXCLUDED, inplace=True)
    similarity.add_(smallest_kept[:, None])


def hardest(similarity: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Values and columns of the ``count`` largest of each row, largest first, ``(T, count)`` each.

    The ``count`` largest lie in the ``count`` groups of columns (every M/16th) whose maxima are largest, so where
    ``count`` is small most columns are only looked at for their group's maximum.
    """
    candidates = similarity.shape[1]
    groups = candidates // GROUP
    if similarity.device.type != "cpu" or count >= candidates:
        return similarity.topk(count, dim=1)
    if 4 * count > groups:
        columns = _largest(similarity, count)
        values = similarity.gather(1, columns)
    else:
        grouped = similarity[:, : groups * GROUP].view(-1, GROUP, groups)
        of_groups = _largest(grouped.amax(1), count)[:, :, None] + groups * torch.arange(GROUP)
        rest = torch.arange(groups * GROUP, candidates).expand(len(similarity), -1)
        possible = torch.cat([of_groups.flatten(1), rest], 1)
        values = similarity.gather(1, possible)
        chosen = _largest(values, count)
        columns, values = possible.gather(1, chosen), values.gather(1, chosen)
    values, order = values.sort(dim=1, descending=True)
    return values, columns.gather(1, order)


def _largest(rows: Tensor, count: int) -> Tensor:
    """Columns of the ``count`` largest of each row, in any order; count < their number."""

    def partition(part: Tensor) -> Tensor:
        return torch.from_numpy(np.argpartition(part.numpy(), part.shape[1] - count, axis=1)[:, -count:])

    return torch.cat(_in_threads(partition, rows))


def _around(similarity: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count``-th and the next largest of each row; 0 < count < M."""
    if similarity.device.type != "cpu":
        largest = similarity.topk(count + 1, dim=1).values
        return largest[:, -2], largest[:, -1]
    position = similarity.shape[1] - count

    def partition(rows: Tensor) -> tuple[Tensor, Tensor]:
        parted = torch.from_numpy(np.partition(rows.numpy(), position, axis=1))
        return parted[:, position], parted[:, :position].amax(1)

    parts = _in_threads(partition, similarity)
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _in_threads(function: Callable[[Tensor], T], rows: Tensor) -> list[T]:
    """Apply a numpy function to groups of rows, as many as torch has threads.

    numpy's partitions use the vector unit, where torch's topk and kthvalue sort pairs of value and index: 2
    to 8 times the speed on a CPU. But they run in one thread.
    """
    chunks = rows.chunk(torch.get_num_threads())
    if len(chunks) == 1 or rows.numel() < WORTH_A_THREAD:
        return [function(rows)]
    with ThreadPoolExecutor(len(chunks)) as threads:
        return list(threads.map(function, chunks))
