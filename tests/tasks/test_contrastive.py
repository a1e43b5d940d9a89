"""A batch embedded in parts gives the loss and the gradients of the whole, on one rank and on two."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from medzeroseg.losses import CEHNCLoss
from medzeroseg.models import ImageTextModel
from medzeroseg.tasks import ContrastiveTask
from tests.helpers.process_pool import run_in_processes

PAIRS = 8


def _task(micro_batch_size: int | None) -> ContrastiveTask:
    torch.manual_seed(0)
    loss = CEHNCLoss(hard_fraction=0.5, lambda_update="adaptive", duplicate_texts="ignore")
    return ContrastiveTask(ImageTextModel("small"), loss, micro_batch_size=micro_batch_size)


def _pairs(task: ContrastiveTask) -> tuple[Tensor, Tensor, Tensor]:
    images = torch.randn(PAIRS, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    texts = [f"slice {n // 2} of the liver" + " and the spleen" * n for n in range(PAIRS)]  # of unequal length
    return images, task.model.tokenizer(texts), torch.arange(PAIRS)


def _gradients(task: ContrastiveTask) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in task.named_parameters() if parameter.grad is not None}


class _Step(torch.nn.Module):
    """A training step as DDP wants it: one forward."""

    def __init__(self, task: ContrastiveTask) -> None:
        super().__init__()
        self.task = task

    def forward(self, images: Tensor, tokens: Tensor, ids: Tensor) -> Tensor:
        return self.task.loss(*self.task.embed_for_training(images, tokens), text_ids=ids)


def _step(micro_batch_size: int | None) -> tuple[Tensor, dict[str, Tensor]]:
    task = _task(micro_batch_size)
    loss = _Step(task)(*_pairs(task))
    loss.backward()
    return loss.detach(), _gradients(task)


@pytest.mark.parametrize("micro_batch_size", [1, 3, 8, 100])
def test_parts_give_the_gradients_of_the_whole(micro_batch_size: int) -> None:
    expected_loss, expected = _step(None)
    loss, gradients = _step(micro_batch_size)
    torch.testing.assert_close(loss, expected_loss)
    assert gradients.keys() == expected.keys()
    assert "model.clip.logit_scale" in gradients
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def _step_on_a_rank(micro_batch_size: int) -> dict[str, Tensor]:
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    task = _task(micro_batch_size)
    images, tokens, ids = _pairs(task)
    part = slice(rank * PAIRS // size, (rank + 1) * PAIRS // size)
    step = DistributedDataParallel(_Step(task))  # kept: its hooks reduce the gradients
    step(images[part], tokens[part], ids[part]).backward()
    return copy.deepcopy(_gradients(task))


def test_parts_give_the_gradients_of_the_whole_over_two_ranks() -> None:
    _, expected = _step(None)
    for gradients in run_in_processes(_step_on_a_rank, 2, 2):
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5, msg=name)


def test_only_one_part_is_embedded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = ImageTextModel.encode_image

    def counted(model: ImageTextModel, images: Tensor) -> Tensor:
        sizes.append(len(images))
        return original(model, images)

    monkeypatch.setattr(ImageTextModel, "encode_image", counted)
    _step(3)
    assert sorted(sizes) == [2, 2, 3, 3, 3, 3]  # twice each part: forward, and again in the backward pass


def test_a_part_of_no_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="micro_batch_size"):
        _task(0)
