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


def test_each_piece_of_a_run_begins_and_ends_alike() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = WarmupCosine(warmup_fraction=0.5, restarts=[0.6], restart_peak=3.0)(optimizer, 10)
    rates = []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    first = [1 / 3, 2 / 3, 1.0, 1.0, 0.75, 0.25]
    assert rates[:6] == pytest.approx(first)
    assert rates[6:8] == pytest.approx([1.5, 3.0])
    assert rates[8:10] == pytest.approx([3.0, 1.5])
    assert rates[10:] == pytest.approx([0.0, 0.0])  # beyond the run


@pytest.mark.parametrize("restarts", [[0.0], [0.5, 0.4], [1.0], [0.3, 0.3]])
def test_restarts_must_increase_within_the_run(restarts: list[float]) -> None:
    with pytest.raises(ValueError, match="restarts"):
        WarmupCosine(restarts=restarts)


def test_stays_at_its_end_beyond_the_run() -> None:
    schedule = WarmupCosine(0.0, 0.25)
    assert schedule.factor(50, 0, 10) == pytest.approx(0.25)
    assert schedule.factor(0, 0, 10) == 1.0


@pytest.mark.parametrize("arguments", [{"warmup_fraction": 1.0}, {"warmup_fraction": -0.1}, {"final_fraction": 2.0}])
def test_fractions_out_of_range_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="fraction"):
        WarmupCosine(**arguments)
