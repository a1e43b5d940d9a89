"""Retrieval over two ranks equals retrieval in one process."""

import torch
from torch.nn.functional import normalize

from medzeroseg.metrics import CrossModalRetrieval
from tests.helpers.process_pool import run_in_processes

PAIRS = 31  # odd: the sampler pads the second rank with a case that the first has seen


def _batch(indices: torch.Tensor) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    images = normalize(torch.randn(PAIRS, 8, generator=generator), dim=1)
    texts = normalize(images + 0.8 * torch.randn(PAIRS, 8, generator=generator), dim=1)
    ids = torch.arange(PAIRS) // 2  # every text recurs
    return images[indices], texts[indices], ids[indices], indices


def compute_on_a_rank() -> dict[str, torch.Tensor]:
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    indices = torch.arange(rank, PAIRS + PAIRS % size, size) % PAIRS
    metric = CrossModalRetrieval(small_gallery=10, seed=1)
    for part in indices.split(4):
        metric.update(*_batch(part))
    return metric.compute()


def test_ranks_agree_with_one_process() -> None:
    metric = CrossModalRetrieval(small_gallery=10, seed=1)
    metric.update(*_batch(torch.arange(PAIRS)))
    expected = metric.compute()
    assert int(expected["full/image_to_text"].max()) > 1  # not trivially right
    for result in run_in_processes(compute_on_a_rank, 2):
        for name, value in expected.items():
            torch.testing.assert_close(result[name], value, msg=name)
