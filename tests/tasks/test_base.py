"""Gradients that are not finite; trainings that cannot go on from a checkpoint."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader

from medzeroseg.errors import NonFiniteGradientError
from medzeroseg.tasks.base import MAX_SKIPPED_STEPS, BaseTask


class OneWeight(BaseTask):
    """Its gradient is what the batch says."""

    def __init__(self) -> None:
        super().__init__(lambda params: torch.optim.SGD(params, lr=1.0))
        self.weight = nn.Parameter(torch.zeros(2, 2))

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> torch.Tensor:
        return (self.weight * batch["gradient"]).sum()


def fit(task: OneWeight, gradients: Sequence[float], **options: Any) -> None:
    batches = [{"gradient": g * torch.ones(2, 2), "case_id": [f"case {n}"]} for n, g in enumerate(gradients)]
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=1.0,
        **options,
    )
    trainer.fit(task, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]


def test_a_gradient_that_is_not_finite_stops_before_it_reaches_the_weights() -> None:
    task = OneWeight()
    with pytest.raises(
        NonFiniteGradientError, match=r"\(in weight\) at epoch 0, step 1\.\nCases of the batch: case 1\n"
    ):
        fit(task, [1.0, math.inf, 1.0])
    torch.testing.assert_close(task.weight.detach(), torch.full((2, 2), -0.5))  # the first step's, clipped


def test_a_step_of_several_batches_names_the_cases_of_all() -> None:
    with pytest.raises(NonFiniteGradientError, match=r"step 1\.\nCases of the batch: case 2, case 3\n"):
        fit(OneWeight(), [1.0, 1.0, math.inf, 1.0, 1.0], accumulate_grad_batches=2)


def test_a_scaler_may_skip_steps_while_it_searches_but_not_for_ever() -> None:
    def plugin() -> MixedPrecision:
        return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))

    task, almost = OneWeight(), [math.nan] * (MAX_SKIPPED_STEPS - 1)
    fit(task, [*almost, 1.0, *almost], plugins=[plugin()])
    torch.testing.assert_close(task.weight.detach(), torch.full((2, 2), -0.5))  # the one good step's
    told = rf"\(in weight\), for {MAX_SKIPPED_STEPS} steps in a row that were all skipped, at epoch 0, step "
    with pytest.raises(NonFiniteGradientError, match=told):
        fit(OneWeight(), [1.0, *almost, math.nan, 1.0], plugins=[plugin()])
