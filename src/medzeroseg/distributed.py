"""Ranks and differentiable gathering. Nothing else in the package knows about ranks."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_alone = False  # a plain value: torch.compile reads it


def is_distributed() -> bool:
    """Whether a process group with more than one rank is initialised."""
    return world_size() > 1


def rank() -> int:
    """This process's rank; 0 without a process group."""
    return dist.get_rank() if _has_group() else 0


def world_size() -> int:
    """The number of ranks; 1 without a process group."""
    return dist.get_world_size() if _has_group() else 1


@contextmanager
def alone() -> Iterator[None]:
    """Let this rank compute as if there were no other: nothing within waits for the others, or sees what they hold."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def batch_sizes(tensor: Tensor) -> list[int]:
    """The first dimension of ``tensor`` on every rank, in rank order (a collective call)."""
    if not is_distributed():
        return [tensor.shape[0]]
    own = torch.tensor([tensor.shape[0]], dtype=torch.long, device=tensor.device)
    gathered = own.new_empty(world_size())
    dist.all_gather_into_tensor(gathered, own)
    return cast("list[int]", gathered.tolist())


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """The sum of ``tensor`` over the ranks, detached; the tensor itself without a process group."""
    if not is_distributed():
        return tensor.detach()
    total = tensor.detach().clone()
    dist.all_reduce(total)
    return total


def highest(value: int, device: torch.device) -> int:
    """The largest ``value`` of all ranks, which all of them get; ``device`` is the process group's."""
    if not is_distributed():
        return value
    values = torch.tensor(value, device=device)
    dist.all_reduce(values, dist.ReduceOp.MAX)
    return int(values)


def all_gather_with_grad(tensor: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """Concatenate ``tensor`` over the ranks along its first dimension, keeping every rank's gradient.

    The backward pass sums, for each rank's own rows, the gradients that all ranks hold for them (a
    reduce-scatter). A parameter gradient that DDP then averages over W ranks is that of the *mean* of the
    ranks' losses.

    Args:
        tensor: ``(B_r, ...)``; ``B_r`` may differ between ranks, the other dimensions may not.
        sizes: every rank's ``B_r`` as :func:`batch_sizes` returns it; asked of the ranks when omitted.

    Returns:
        ``(sum_r B_r, ...)`` in rank order; ``tensor`` itself without a process group.
    """
    if not is_distributed():
        return tensor
    return cast("Tensor", _AllGather.apply(tensor, tuple(batch_sizes(tensor) if sizes is None else sizes)))


class _AllGather(torch.autograd.Function):
    """Ranks with fewer rows are padded to the largest, since the collectives need equal shapes."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:  # noqa: ANN401 (autograd's signature)
        tensor, sizes = cast("tuple[Tensor, tuple[int, ...]]", args)
        ctx.sizes = sizes
        gathered = tensor.new_empty((len(sizes) * max(sizes), *tensor.shape[1:]))
        dist.all_gather_into_tensor(gathered, _pad(tensor.contiguous(), max(sizes)))
        return _unpad(gathered, sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:  # noqa: ANN401
        sizes: tuple[int, ...] = ctx.sizes
        longest = max(sizes)
        parts = [_pad(part, longest) for part in torch.split(grads[0], list(sizes))]
        own = parts[0].new_empty(parts[0].shape)
        dist.reduce_scatter_tensor(own, torch.cat(parts))
        return own[: sizes[rank()]], None


def _has_group() -> bool:
    return not _alone and dist.is_available() and dist.is_initialized()


def _pad(tensor: Tensor, rows: int) -> Tensor:
    missing = rows - tensor.shape[0]
    return tensor if missing == 0 else torch.cat([tensor, tensor.new_zeros((missing, *tensor.shape[1:]))])


def _unpad(gathered: Tensor, sizes: tuple[int, ...]) -> Tensor:
    if len(set(sizes)) == 1:
        return gathered
    return torch.cat([part[:size] for part, size in zip(torch.split(gathered, max(sizes)), sizes, strict=True)])
