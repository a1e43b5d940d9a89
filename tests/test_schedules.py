"""The learning-rate schedule at its corners."""

import pytest
import torch

from medzeroseg.schedules import WarmupCosine


def test_rises_linearly_then_falls_as_a_half_cosine() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=2.0)
    scheduler = WarmupCosine(warmup_fraction=0.2, final_fraction=0.1)(optimizer, 10)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:3] == pytest.approx([1.0, 2.0, 2.0])
    assert rates[6] == pytest.approx(2 * (0.1 + 0.9 / 2))  # half-way down
    assert rates[10] == pytest.approx(0.2)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def test_stays_at_its_end_beyond_the_run() -> None:
    schedule = WarmupCosine(0.0, 0.25)
    assert schedule.factor(50, 0, 10) == pytest.approx(0.25)
    assert schedule.factor(0, 0, 10) == 1.0


@pytest.mark.parametrize("arguments", [{"warmup_fraction": 1.0}, {"warmup_fraction": -0.1}, {"final_fraction": 2.0}])
def test_fractions_out_of_range_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="fraction"):
        WarmupCosine(**arguments)
