"""However many processes share an evaluation: each pair is seen once, and the figures are the same."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from medzeroseg.losses import CEHNCLoss
from medzeroseg.models import ImageTextModel
from medzeroseg.tasks import ContrastiveTask
from tests.helpers.fake_pairs import FakeDataModule
from tests.helpers.process_pool import run_in_processes

PAIRS, BATCH = 16, 3  # five batches and one of a single pair: neither 2 nor 3 ranks get as many as each other


def _evaluate(ranks: int) -> tuple[list[int], dict[str, Tensor], float, int]:
    """What one rank sees, the metric of all, and the rank's losses, summed over pairs."""
    torch.manual_seed(0)
    rank = torch.distributed.get_rank()
    data = FakeDataModule({"train": 4, "val": PAIRS, "test": 4}, eval_batch_size=BATCH)
    data.trainer = SimpleNamespace(global_rank=rank, world_size=ranks)  # type: ignore[assignment]
    task = ContrastiveTask(ImageTextModel("small"), CEHNCLoss(duplicate_texts="ignore")).eval()
    data.setup("fit")
    data.attach_model(*[task.model.image_transform(train=False)] * 2, task.model.tokenizer)
    logged: list[tuple[float, int]] = []
    task.log = lambda name, value, batch_size, **_: logged.append((float(value), batch_size))  # type: ignore
    seen: list[int] = []
    metric = task.evaluator.metric
    with torch.no_grad():
        for n, batch in enumerate(data.val_dataloader()):
            found = task.validation_step(batch, n)
            metric.update(found["image_embeddings"], found["text_embeddings"], batch["text_id"], batch["index"])
            seen += batch["index"].tolist()
    assert len(logged) == -(-len(seen) // BATCH)  # also of the single pair: the ranks exchange it in the end
    return seen, metric.compute(), sum(value * size for value, size in logged), sum(size for _, size in logged)


def _shared_by(ranks: int) -> tuple[list[int], dict[str, Tensor], float, int]:
    results: list[Any] = run_in_processes(_evaluate, ranks, ranks)
    seen = [index for own, *_ in results for index in own]
    for _, metric, *_ in results[1:]:
        assert all(torch.equal(metric[name], value) for name, value in results[0][1].items())
    return seen, results[0][1], sum(loss for *_, loss, _ in results), sum(size for *_, size in results)


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_see_each_pair_once_and_find_what_one_process_finds(ranks: int) -> None:
    alone, metric, loss, pairs = _shared_by(1)
    assert alone == list(range(PAIRS))
    assert pairs == PAIRS - 1  # the single pair has no negatives
    seen, of_ranks, loss_of_ranks, pairs_of_ranks = _shared_by(ranks)
    assert sorted(seen) == alone  # none twice, none missing
    assert metric["index"].tolist() == alone
    for name, value in metric.items():
        assert torch.equal(of_ranks[name], value), name
    assert pairs_of_ranks == pairs
    assert loss_of_ranks == pytest.approx(loss, rel=1e-6)
