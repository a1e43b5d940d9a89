"""Parameter groups: what decays and what does not."""

import torch
from torch import nn

from medzeroseg.tasks.base import parameter_groups


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
