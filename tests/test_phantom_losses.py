"""The other losses train on the phantom as phantom_cehnc does, step for step, until retrieval stops changing."""

import csv
from pathlib import Path

import pytest
import torch
import yaml

from medzeroseg.schedules import WarmupCosine
from medzeroseg.tables import read_records
from tests.test_experiments import inputs, run

EXPERIMENTS = Path(__file__).parent.parent / "experiments"
SHORT = ("phantom_infonce", "phantom_dcl", "phantom_hn_nce", "phantom_dhn_nce")
STEPS_AN_EPOCH = 100  # 4,000 pairs in batches of 40
INIT = "--model.init_args."

__all__ = ["inputs"]  # a fixture


def read(name: str) -> dict[str, object]:
    values: dict[str, object] = yaml.safe_load((EXPERIMENTS / name).read_text(encoding="utf-8"))
    return values


def learning_rates(schedule: WarmupCosine, steps: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("name", SHORT)
def test_learning_rates_are_those_of_the_long_run_as_long_as_it_trains_on_pairs(name: str) -> None:
    short, long = read(f"{name}.yaml"), read("phantom_cehnc.yaml")
    epochs, of_long = short["trainer"]["max_epochs"], long["trainer"]["max_epochs"]  # type: ignore[index]
    own, theirs = short["model"]["init_args"], long["model"]["init_args"]  # type: ignore[index]
    if isinstance(theirs["lr_schedule"], str):
        theirs["lr_schedule"] = read(theirs["lr_schedule"])
    assert round(of_long * (1 - theirs["window_share"])) == epochs
    assert "window_share" not in own
    # all but the loss, and what is said of the length
    assert set(own) - {"loss"} == set(theirs) - {"loss", "window_share"}
    for part in set(own) - {"loss", "lr_schedule"}:
        assert own[part] == theirs[part], part
    assert short["data"] == long["data"]
    rates = learning_rates(WarmupCosine(**own["lr_schedule"]["init_args"]), epochs * STEPS_AN_EPOCH)
    whole = learning_rates(WarmupCosine(**theirs["lr_schedule"]["init_args"]), of_long * STEPS_AN_EPOCH)
    assert rates == whole[: len(rates)]


@pytest.mark.slow
def test_the_short_run_retrieves_what_the_long_one_does(
    inputs: Path,
    tmp_path: Path,
    project_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(project_root)
    long = ["--trainer.max_epochs=22", f"{INIT}window_share=0.636363"]
    long += [f"{INIT}lr_schedule.init_args.restarts=[0.363637]", f"{INIT}lr_schedule.init_args.restart_peak=3.0"]
    assert run("phantom_infonce", inputs, tmp_path / "short", ["--trainer.max_epochs=8"]) == 0
    assert run("phantom_infonce", inputs, tmp_path / "long", long) == 0
    short_steps, long_steps = (steps(tmp_path / name) for name in ("short", "long"))
    assert len(short_steps) == 16  # 2 an epoch
    assert len(long_steps) == 44
    assert long_steps[:16] == short_steps
    [one], [other] = read_records(tmp_path / "short"), read_records(tmp_path / "long")
    assert one.ranks == other.ranks
    assert one.metrics == other.metrics


def steps(runs: Path) -> list[tuple[str, ...]]:
    """Learning rate and losses of each step, as they were logged."""
    [file] = runs.glob("phantom_infonce/seed_0/csv/version_0/metrics.csv")
    with file.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = ("lr-AdamW/pg1", "train/window_loss", "train/loss")
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["step"], ["", "", ""])
        for n, name in enumerate(names):
            found[row["step"]][n] = row[name] or found[row["step"]][n]
    return [tuple(found[step]) for step in sorted(found, key=int) if found[step][1]]
