"""Parameter groups: what decays and what does not; gradients that are not finite."""

import math
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader

from medzeroseg.errors import NonFiniteGradientError
from medzeroseg.tasks.base import BaseTask, parameter_groups


def test_norms_biases_and_temperatures_do_not_decay_and_frozen_weights_are_left_out() -> None:
    module = nn.ModuleDict({"linear": nn.Linear(3, 2), "norm": nn.LayerNorm(2), "frozen": nn.Linear(2, 2)})
    module["frozen"].requires_grad_(False)
    module.register_parameter("logit_scale", nn.Parameter(torch.tensor(1.0)))
    decaying, others = parameter_groups(module.named_parameters())
    assert [tuple(p.shape) for p in decaying["params"]] == [(2, 3)]
    assert sorted(tuple(p.shape) for p in others["params"]) == [(), (2,), (2,), (2,)]
    assert others["weight_decay"] == 0.0
    optimizer = torch.optim.AdamW([decaying, others], weight_decay=0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_a_group_without_parameters_is_left_out() -> None:
    assert len(parameter_groups(nn.Linear(3, 2, bias=False).named_parameters())) == 1


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
