"""What counts as done: a record, today's configuration, and models that are not younger than the run."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from medzeroseg.paper.plan import Run, Step
from medzeroseg.paper.state import Stage, changed_keys, statuses
from medzeroseg.tables.records import RECORD_NAME

BASE, WEAK = Run("base", 0), Run("weak", 0)


def settings(name: str) -> dict[str, Any]:
    return {
        "experiment": name,
        "trainer": {"max_epochs": 3, "default_root_dir": f"runs/{name}/seed_0", "logger": [{"save_dir": "x"}]},
        "data": {"init_args": {"root": "data/acdc", "num_workers": 2, "batch_size": 4}},
        "ckpt_path": None,
    }


def build(tmp_path: Path) -> list[Step]:
    base = Step(BASE, Path("base.yaml"), tmp_path / "base", settings("base"), {})
    needs = {BASE: tmp_path / "base" / "checkpoints" / "best.ckpt"}
    return [base, Step(WEAK, Path("weak.yaml"), tmp_path / "weak", settings("weak"), needs)]


def write(
    step: Step, at: int, files: Sequence[str] = ("checkpoints/best.ckpt", "checkpoints/last.ckpt", RECORD_NAME)
) -> None:
    """What a run leaves, all of one time."""
    step.folder.mkdir(exist_ok=True)
    (step.folder / "checkpoints").mkdir(exist_ok=True)
    (step.folder / "config.yaml").write_text(yaml.safe_dump(step.settings), encoding="utf-8")
    for name in ("config.yaml", *files):
        (step.folder / name).touch()
        os.utime(step.folder / name, (at, at))


def stages(steps: list[Step]) -> list[str]:
    return [status.stage.value for status in statuses(steps).values()]


def test_a_recorded_run_of_todays_configuration_is_done(tmp_path: Path) -> None:
    steps = build(tmp_path)
    assert stages(steps) == ["new", "new"]
    write(steps[0], 100)
    assert stages(steps) == ["done", "new"]
    write(steps[1], 200)
    assert stages(steps) == ["done", "done"]


def test_an_interrupted_run_is_resumed_if_it_has_a_checkpoint(tmp_path: Path) -> None:
    steps = build(tmp_path)
    write(steps[0], 100)
    write(steps[1], 200, ["checkpoints/last.ckpt"])
    assert stages(steps) == ["done", "resume"]
    (steps[1].folder / "checkpoints" / "last.ckpt").unlink()
    assert stages(steps) == ["done", "new"]


def test_a_changed_configuration_runs_again_and_so_does_what_depends_on_it(tmp_path: Path) -> None:
    steps = build(tmp_path)
    write(steps[0], 100)
    write(steps[1], 200)
    steps[0].settings["data"]["init_args"]["batch_size"] = 8
    found = statuses(steps)
    assert [status.stage for status in found.values()] == [Stage.NEW, Stage.NEW]
    assert found[BASE].reason == "its configuration has changed: data.init_args.batch_size"
    assert found[WEAK].reason == "base, seed 0 runs again"


def test_an_interrupted_run_of_another_configuration_starts_anew(tmp_path: Path) -> None:
    steps = build(tmp_path)
    write(steps[0], 100, ["checkpoints/last.ckpt"])
    assert stages(steps) == ["resume", "new"]
    steps[0].settings["trainer"]["max_epochs"] = 4
    assert stages(steps) == ["new", "new"]


@pytest.mark.parametrize("files", [(RECORD_NAME,), ("checkpoints/last.ckpt",)])
def test_a_model_that_was_trained_after_the_run_began_makes_it_run_anew(tmp_path: Path, files: tuple[str, ...]) -> None:
    steps = build(tmp_path)
    write(steps[0], 300)
    write(steps[1], 200, files)
    found = statuses(steps)
    assert found[BASE].stage is Stage.DONE
    assert found[WEAK].stage is Stage.NEW
    assert found[WEAK].reason == "base, seed 0 was trained after it"


def test_what_belongs_to_the_machine_is_no_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    then = settings("base")
    then["data"]["init_args"] |= {"num_workers": 8, "root": str(tmp_path / "data" / "acdc")}
    then["trainer"] |= {"logger": None, "enable_progress_bar": False}
    then["ckpt_path"] = "last.ckpt"
    assert changed_keys(settings("base"), then) == []
    then["data"]["init_args"]["root"] = str(tmp_path / "data" / "other")
    assert changed_keys(settings("base"), then) == ["data.init_args.root"]


def test_moved_runs_are_no_change_but_another_model_is() -> None:
    today, then = settings("weak"), settings("weak")
    today |= {"runs_dir": "runs", "checkpoint": "runs/base/seed_0/checkpoints/best.ckpt"}
    then |= {"runs_dir": "/old/runs", "checkpoint": "/old/runs/base/seed_0/checkpoints/best.ckpt"}
    then["trainer"]["default_root_dir"] = "/old/runs/weak/seed_0"
    assert changed_keys(today, then) == []
    then["checkpoint"] = "/old/runs/other/seed_0/checkpoints/best.ckpt"
    assert changed_keys(today, then) == ["checkpoint"]


def test_a_file_that_is_no_configuration_is_a_change(tmp_path: Path) -> None:
    [step, _] = build(tmp_path)
    write(step, 100)
    (step.folder / "config.yaml").write_text("", encoding="utf-8")
    assert statuses([step])[BASE].stage is Stage.NEW
