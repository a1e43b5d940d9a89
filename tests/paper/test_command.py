"""The command from end to end on tiny runs: in order, skipped when done, the same figures each time."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from medzeroseg.errors import ConfigurationError
from medzeroseg.main import main
from medzeroseg.paper import command
from medzeroseg.paper.configs import SEED
from medzeroseg.paper.plan import Step
from medzeroseg.paper.running import Starter
from tests.paper.test_report import retrieval, segmentation

SMALL: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}


@pytest.fixture
def paper(tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan of two runs, the second of which reads the first one's checkpoint; it is named first."""
    monkeypatch.chdir(project_root)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    parts = project_root / "experiments" / "parts"

    def experiment(name: str, change: dict[str, Any]) -> str:
        values = yaml.safe_load((parts.parent / f"{name}.yaml").read_text(encoding="utf-8"))
        values["trainer"] = change["trainer"]
        values["model"] = change["model"]
        kind = "ROCO" if name == "phantom_cehnc" else "COVIDQUEx"
        values["data"] = {"class_path": f"data_modules.Phantom{kind}DataModule", "init_args": change["data"]}
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        return str(path)

    pairs = {"root": str(tmp_path / "pairs"), "train": 8, "validation": 4, "test": 6, "batch_size": 4}
    pictures = {"root": str(tmp_path / "pictures"), "train": 3, "validation": 3, "test": 3, "image_size_px": 64}
    workers = {"num_workers": 0, "phantom_workers": 0}
    task = {
        "class_path": "medzeroseg.tasks.ContrastiveTask",
        "init_args": {
            "model": str(parts / "small_model.yaml"),
            "loss": {"class_path": "medzeroseg.losses.InfoNCELoss"},
        },
    }
    zero_shot = str(parts / "zeroshot_phantom.yaml")
    table = {"experiment": "${experiment}", "seed": "${seed_everything}", "label": "${label}", "dataset": "${dataset}"}
    recorded = [{"class_path": "medzeroseg.callbacks.SegmentationTable", "init_args": table}]
    names = [
        experiment(
            "phantom_covid_qu_ex_zeroshot",
            {
                "trainer": SMALL | {"max_epochs": 0, "callbacks": recorded},
                "model": zero_shot,
                "data": pictures | workers,
            },
        ),
        experiment("phantom_cehnc", {"trainer": SMALL | {"max_epochs": 1}, "model": task, "data": pairs | workers}),
    ]
    plan = {"title": "Tiny", "statement": "A test.", "seeds": [3], "data_is_made": True, "experiments": names}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(plan), encoding="utf-8")
    return path


def attempts(runs: Path) -> list[tuple[str, int]]:
    values = json.loads((runs / "paper" / "tiny" / "times.json").read_text(encoding="utf-8"))
    return [(value["experiment"], value["exit_code"]) for value in values]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_paper_is_made_in_order_once_and_with_the_same_figures_again(
    paper: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    assert main(["paper", str(paper), "--runs", str(one), "--dry-run"]) == 0
    assert "0 of 2 runs are done" in capsys.readouterr().out
    for runs in (one, other):
        # two runs cannot fill the columns of a figure, which is told; nothing else is missing
        assert main(["paper", str(paper), "--runs", str(runs), "--jobs", "2"]) == 1
        shown = capsys.readouterr().out
        assert set(re.findall(r"^not built: (\w+)", shown, flags=re.MULTILINE)) == {"Figures"}, shown
        assert attempts(runs) == [("phantom_cehnc", 0), ("phantom_covid_qu_ex_zeroshot", 0)]
        report = (runs / "paper" / "tiny" / "report.html").read_text(encoding="utf-8")
        assert "2 of 2 runs are finished" in report
        assert 'id="table1"' in report
        assert 'id="table2"' in report
    first, second = (json.loads((runs / "paper/tiny/index.json").read_text()) for runs in (one, other))
    assert len(first) == 2
    assert first == second  # hashes of the scores by case, and of the configurations

    assert main(["paper", str(paper), "--runs", str(one), "--jobs", "2"]) == 1
    assert len(attempts(one)) == 2  # all was done

    base = tmp_path / "phantom_cehnc.yaml"
    good = base.read_text(encoding="utf-8")
    base.write_text(good.replace("train: 8", "train: 8\n    no_such_option: 1"), encoding="utf-8")
    assert main(["paper", str(paper), "--runs", str(one)]) == 2  # a fault is found before anything starts
    assert len(attempts(one)) == 2
    base.write_text(good.replace("train: 8", "train: 7"), encoding="utf-8")
    capsys.readouterr()
    assert main(["paper", str(paper), "--runs", str(one), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "0 of 2 runs are done" in shown
    assert main(["paper", str(paper), "--runs", str(one), "--report-only"]) == 1
    assert len(attempts(one)) == 2


class Trainings:
    """In place of the processes that train: each leaves at once what a finished run leaves, or fails."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.failing: set[str] = set()

    def start(self, step: Step) -> "subprocess.Popen[bytes]":
        name = step.run.experiment
        self.started.append(name)
        if name not in self.failing:
            checkpoint = step.folder / "checkpoints" / "best.ckpt"
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.touch()
            (step.folder / "config.yaml").write_text(yaml.safe_dump(step.settings), encoding="utf-8")
            if name == "phantom_cehnc":
                retrieval(name, 0, 5).write(step.folder)
            else:
                segmentation(name, "weak_resunet", [0.5], "weak").write(step.folder)
        return subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({3 if name in self.failing else 0})"])


@pytest.fixture
def trainings(tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch) -> Trainings:
    """`medzeroseg paper tmp_path/two.yaml` with stand-ins for all that needs torch."""
    monkeypatch.chdir(project_root)
    made = Trainings()

    def resolve(experiments: Sequence[str], overrides: list[str], *_: object) -> dict[str, str]:
        runs = overrides[0].partition("=")[2]
        epochs = len(overrides)
        best = {"phantom_acdc_weak": f"{runs}/phantom_cehnc/seed_{SEED}/checkpoints/best.ckpt"}
        return {
            name: yaml.safe_dump(
                {
                    "runs_dir": runs,
                    "experiment": name,
                    "trainer": {"default_root_dir": f"{runs}/{name}/seed_{SEED}", "max_epochs": epochs},
                    "model": {"checkpoint": best.get(name)},
                    "data": {"init_args": {"root": str(tmp_path / "data")}},
                }
            )
            for name in experiments
        }

    monkeypatch.setattr(command, "resolve", resolve)
    monkeypatch.setattr(command, "_accelerator", lambda: "none")
    monkeypatch.setattr(command, "_draw", lambda *_: ([], []))

    def start(self: Starter, step: Step) -> "subprocess.Popen[bytes]":
        self._begun[step.run] = datetime.now(UTC)
        return made.start(step)

    monkeypatch.setattr(Starter, "start", start)
    names = ["phantom_acdc_weak", "phantom_cehnc"]
    plan = {"title": "Two", "statement": "A test.", "seeds": [0], "data_is_made": True, "experiments": names}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
    return made


def test_a_paper_runs_in_order_and_only_what_is_left(
    trainings: Trainings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["paper", str(tmp_path / "two.yaml"), "--runs", str(tmp_path / "runs")]
    assert main([*words, "--dry-run"]) == 0
    assert "0 of 2 runs are done" in capsys.readouterr().out
    assert main(words) == 0
    assert trainings.started == ["phantom_cehnc", "phantom_acdc_weak"]
    report = tmp_path / "runs" / "paper" / "two" / "report.html"
    assert "2 of 2 runs are finished" in report.read_text(encoding="utf-8")
    assert main(words) == 0
    assert len(trainings.started) == 2
    assert main([*words, "--", "--trainer.max_epochs=9"]) == 0  # changes the configuration of both
    assert trainings.started[2:] == ["phantom_cehnc", "phantom_acdc_weak"]


def test_a_failed_run_is_told_and_tried_again(
    trainings: Trainings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["paper", str(tmp_path / "two.yaml"), "--runs", str(tmp_path / "runs"), "--jobs", "1"]
    trainings.failing = {"phantom_cehnc"}
    assert main(words) == 1
    assert trainings.started == ["phantom_cehnc"]
    shown = capsys.readouterr().out
    assert "phantom_cehnc, seed 0" in shown
    assert "exit code 3" in shown
    assert "it needs phantom_cehnc, seed 0" in shown
    report = tmp_path / "runs" / "paper" / "two" / "report.html"
    assert "0 of 2 runs are finished: this report is not complete." in report.read_text(encoding="utf-8")
    trainings.failing = set()
    assert main([*words, "--report-only"]) == 1
    assert trainings.started == ["phantom_cehnc"]
    assert main(words) == 0


def test_missing_data_is_told_before_anything_starts(
    trainings: Trainings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "two.yaml"
    text = plan.read_text(encoding="utf-8")
    plan.write_text(text.replace("data_is_made: true", "data_is_made: false"), encoding="utf-8")
    assert main(["paper", str(plan), "--runs", str(tmp_path / "runs")]) == 2
    assert f"{tmp_path / 'data'}: for phantom_cehnc, phantom_acdc_weak" in capsys.readouterr().err
    assert trainings.started == []


def test_two_papers_do_not_work_on_the_same_runs(tmp_path: Path) -> None:
    with (
        command._alone(tmp_path / ".lock"),
        pytest.raises(ConfigurationError, match="Another"),
        command._alone(tmp_path / ".lock"),
    ):
        pass
    with command._alone(tmp_path / ".lock"):
        pass
