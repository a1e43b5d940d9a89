"""The examples in the docstrings, and the losses inside open_clip's own training loop."""

import doctest
import importlib
from types import SimpleNamespace

import pytest
import torch
from open_clip_train.train import train_one_epoch
from torch import Tensor, nn
from torch.nn import functional as F

from medzeroseg.losses import CEHNCLoss, InfoNCELoss, OpenClipAdapter
from tests.losses.cases import pairs

BATCHES, BATCH = 12, 16


@pytest.mark.parametrize("module", ["cehnc", "info_nce"])
def test_docstrings(module):
    result = doctest.testmod(importlib.import_module(f"medzeroseg.losses.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


class TinyClip(nn.Module):
    """What open_clip's loop asks of a model: a dictionary out, and a logit scale to clamp."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 16))
        self.text = nn.EmbeddingBag(64, 16)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor, texts: Tensor) -> dict[str, Tensor]:
        return {
            "image_features": F.normalize(self.image(images), dim=-1),
            "text_features": F.normalize(self.text(texts), dim=-1),
            "logit_scale": self.logit_scale.exp(),
        }


class Loader(list):
    num_batches, num_samples = BATCHES, BATCHES * BATCH


@pytest.mark.parametrize("accumulation", [1, 2])
def test_inside_open_clips_training_loop(accumulation):
    torch.manual_seed(0)
    images, texts = torch.randn(BATCH, 3, 4, 4), torch.randint(0, 64, (BATCH, 5))
    model, loss = TinyClip(), OpenClipAdapter(CEHNCLoss(lambda_update="adaptive"))
    args = SimpleNamespace(
        device="cpu",
        precision="amp_bf16",
        distill=False,
        accum_freq=accumulation,
        skip_scheduler=True,
        horovod=False,
        grad_clip_norm=1.0,
        rank=0,
        log_every_n_steps=1,
        batch_size=BATCH,
        world_size=1,
        wandb=False,
    )
    logged: dict[str, list[float]] = {}
    writer = SimpleNamespace(add_scalar=lambda name, value, step: logged.setdefault(name, []).append(value))
    data = {
        "train": SimpleNamespace(
            set_epoch=lambda epoch: None,
            dataloader=Loader((images + 0.1 * torch.randn_like(images), texts) for _ in range(BATCHES)),
        )
    }
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for epoch in range(3):
        train_one_epoch(model, data, loss, epoch, optimizer, None, None, None, args, writer)
    values = logged["train/contrastive_loss"]
    assert len(values) == 3 * BATCHES // accumulation
    assert values[-1] < values[0] - 0.5
    assert loss.loss.lambda_image_to_text != 1.0  # it adapted without being told
    assert loss.loss.schedule.step == 3 * BATCHES


def test_adapter():
    images, texts = pairs(5)
    scale = torch.tensor(10.0)
    inner = InfoNCELoss()
    adapter = OpenClipAdapter(inner)
    assert adapter(images, texts, scale) == inner(images, texts, scale)
    assert set(adapter(images, texts, logit_scale=scale, output_dict=True)) == {"contrastive_loss"}
    with pytest.raises(ValueError, match="logit_bias"):
        adapter(images, texts, scale, logit_bias=torch.tensor(-10.0))
    with pytest.raises(ValueError, match="duplicate_texts='keep'"):
        OpenClipAdapter(InfoNCELoss(duplicate_texts="ignore"))
