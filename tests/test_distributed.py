"""Ranks and gathering, and the pool of processes the tests of ranks run in."""

import os

import pytest
import torch
from torch.testing import assert_close

from medzeroseg import distributed
from tests.helpers.process_pool import WorkerError, run_in_processes


def test_without_a_process_group():
    tensor = torch.arange(3.0, requires_grad=True)
    assert (distributed.rank(), distributed.world_size(), distributed.is_distributed()) == (0, 1, False)
    assert distributed.all_gather_with_grad(tensor) is tensor
    assert distributed.batch_sizes(tensor) == [3]
    assert_close(distributed.all_reduce_sum(tensor), tensor.detach())


def _gather(sizes):
    rank = distributed.rank()
    assert distributed.world_size() == len(sizes)
    assert distributed.is_distributed()
    generator = torch.Generator().manual_seed(0)
    everything = torch.randn(sum(sizes), 2, 3, generator=generator)
    own = everything.split(sizes)[rank].clone().requires_grad_()
    gathered = distributed.all_gather_with_grad(own)
    # Each rank weighs every row differently: row i, rank r -> (r + 1) * (i + 1).
    weights = (rank + 1.0) * torch.arange(1.0, sum(sizes) + 1)
    (gathered.sum((1, 2)) * weights).sum().backward()
    return rank, distributed.batch_sizes(own), gathered.detach(), own.grad


@pytest.mark.parametrize("sizes", [(2, 2), (3, 1), (2, 2, 2), (1, 4, 2)])
def test_gather_concatenates_and_sums_the_gradients_of_all_ranks(sizes):
    expected = torch.randn(sum(sizes), 2, 3, generator=torch.Generator().manual_seed(0))
    total = sum(range(1, len(sizes) + 1))
    for rank, (own_rank, found_sizes, gathered, gradient) in enumerate(run_in_processes(_gather, len(sizes), sizes)):
        assert own_rank == rank
        assert found_sizes == list(sizes)
        assert_close(gathered, expected)
        start = sum(sizes[:rank])
        rows = torch.arange(start + 1.0, start + sizes[rank] + 1)
        assert_close(gradient, total * rows[:, None, None].expand(-1, 2, 3))


def _reduce():
    return distributed.all_reduce_sum(torch.tensor([1.0 + distributed.rank(), 1.0])), torch.get_num_threads()


def test_sum_over_ranks():
    for total, threads in run_in_processes(_reduce, 3):
        assert_close(total, torch.tensor([6.0, 3.0]))
        assert threads == 1


def _highest():
    return distributed.highest([0, 2, 1][distributed.rank()], torch.device("cpu"))


def test_all_ranks_get_the_highest_value():
    assert run_in_processes(_highest, 3) == [2, 2, 2]
    assert distributed.highest(1, torch.device("cpu")) == 1


def _misbehave(how):
    if distributed.rank() == 1:
        if how == "raise":
            raise ZeroDivisionError("on purpose")
        if how == "die":
            os._exit(7)
    if distributed.rank() == 1 or how == "hang":
        import time

        time.sleep(600)


@pytest.mark.parametrize(
    ("how", "message"),
    [("raise", "ZeroDivisionError: on purpose"), ("die", r"rank 1 died \(exit code 7\)")],
)
def test_a_failing_worker_fails_the_test_and_the_pool_recovers(how, message):
    with pytest.raises(WorkerError, match=message):
        run_in_processes(_misbehave, 2, how)
    assert [r[1] for r in run_in_processes(_reduce, 2)] == [1, 1]


def test_a_silent_worker_fails_the_test():
    with pytest.raises(WorkerError, match="did not answer within 1 s"):
        run_in_processes(_misbehave, 2, "hang", silence_s=1)
