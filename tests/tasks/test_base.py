"""Gradients that are not finite; trainings that cannot go on from a checkpoint."""

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader

from medzeroseg.errors import NonFiniteGradientError
from medzeroseg.tasks.base import BaseTask


class OneWeight(BaseTask):
    """Its gradient is what the batch says."""

    def __init__(self) -> None:
        super().__init__(lambda params: torch.optim.SGD(params, lr=1.0))
        self.weight = nn.Parameter(torch.zeros(2, 2))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        return (self.weight * batch["gradient"]).sum()


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights() -> None:
    task = OneWeight()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
    )
    batches = [{"gradient": g * torch.ones(2, 2), "case_id": [f"case {n}"]} for n, g in enumerate((1.0, math.inf, 1.0))]
    with pytest.raises(
        NonFiniteGradientError, match=r"\(in weight\) at epoch 0, step 1\.\nCases of the batch: case 1\n"
    ):
        trainer.fit(task, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    torch.testing.assert_close(task.weight.detach(), torch.full((2, 2), -0.5))  # the first step's, clipped
