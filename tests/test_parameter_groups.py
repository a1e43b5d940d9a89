"""Parameter groups: what decays and what does not, and which layer learns how fast."""

import pytest
import torch
from torch import nn

from medzeroseg.parameter_groups import layer_decayed_groups, parameter_groups, scale_learning_rates


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


def test_each_layer_learns_by_a_factor_slower_than_the_one_above_it() -> None:
    tower = nn.ModuleList([nn.Embedding(4, 2), nn.Linear(2, 2), nn.Linear(2, 2)])
    module = nn.ModuleDict({"tower": tower, "head": nn.Linear(2, 1)})
    module.register_parameter("logit_scale", nn.Parameter(torch.tensor(1.0)))
    groups = layer_decayed_groups(module.named_parameters(), {"text": [[part] for part in tower]}, 0.5)
    optimizer = torch.optim.AdamW(groups, lr=0.8, weight_decay=0.1)
    scale_learning_rates(optimizer.param_groups)
    found = {g["name"]: (g["lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups}
    assert found == {
        "text.0": (pytest.approx(0.1), 0.1, 1),  # 0.8 / 2 / 2 / 2
        "text.1": (pytest.approx(0.2), 0.1, 1),
        "text.1.no_decay": (pytest.approx(0.2), 0.0, 1),
        "text.2": (pytest.approx(0.4), 0.1, 1),
        "text.2.no_decay": (pytest.approx(0.4), 0.0, 1),
        "rest": (pytest.approx(0.8), 0.1, 1),
        "rest.no_decay": (pytest.approx(0.8), 0.0, 2),  # the head's bias and the temperature
    }


def test_groups_of_frozen_layers_are_left_out() -> None:
    tower = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    tower[0].requires_grad_(False)
    groups = layer_decayed_groups(tower.named_parameters(), {"image": [[part] for part in tower]}, 0.9)
    assert [group["name"] for group in groups] == ["image.1", "image.1.no_decay"]


@pytest.mark.parametrize("factor", [0.0, 1.1])
def test_a_factor_out_of_range_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="layer_decay"):
        layer_decayed_groups([], {}, factor)
