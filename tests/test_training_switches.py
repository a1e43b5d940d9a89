"""The switches of docs/training.md as a person gives them: on the command line of a shipped experiment."""

import csv
from pathlib import Path

import pytest
import torch

from medzeroseg.callbacks.step_checkpoint import StepCheckpoint
from medzeroseg.checkpoints import read_checkpoint
from medzeroseg.inference.loading import load_model
from medzeroseg.main import main
from medzeroseg.tables import read_records
from tests.test_experiments import SMALL_RUN, inputs, overrides, run

__all__ = ["inputs"]  # the fixture, shared

TOWERS = "--model.init_args.towers"
PERFORMANCE = "--model.init_args.performance"
AVERAGE = ["--trainer.callbacks+=medzeroseg.callbacks.WeightAverage", "--trainer.callbacks.init_args.decay=0.5"]
FIT = ["--trainer.max_epochs=2"]


@pytest.fixture(autouse=True)
def at_root(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project_root)


def test_all_of_them_together_train_and_leave_a_checkpoint_that_everything_opens(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    monkeypatch.setattr(
        StepCheckpoint, "on_fit_start", lambda _, trainer, __: order.extend(type(c).__name__ for c in trainer.callbacks)
    )
    switches = [
        f"{TOWERS}.freeze_text=1",
        f"{TOWERS}.layer_decay=0.5",
        f"{TOWERS}.gradient_checkpointing=[image,text]",
        f"{PERFORMANCE}.channels_last=true",
        f"{PERFORMANCE}.compile=true",
        f"{PERFORMANCE}.compile_backend=eager",
        *AVERAGE,
    ]
    assert run("phantom_cehnc", inputs, tmp_path, [*FIT, *switches]) == 0
    assert order.index("WeightAverage") < order.index("StepCheckpoint")  # which else would save before the update
    seed = tmp_path / "phantom_cehnc" / "seed_0"
    best = read_checkpoint(seed / "checkpoints" / "best.ckpt")
    assert best["config"]["model"]["init_args"]["towers"]["layer_decay"] == 0.5
    loaded = load_model(seed / "checkpoints" / "best.ckpt").model.state_dict()
    averaged, trained = best["state_dict"], best["current_model_state"]
    assert all(torch.equal(value, averaged[f"model.{name}"]) for name, value in loaded.items())
    assert any(not torch.equal(value, trained[name]) for name, value in averaged.items())
    frozen = "model.clip.text.token_embedding.weight"
    assert torch.equal(averaged[frozen], trained[frozen])
    with next((seed / "csv").glob("*/metrics.csv")).open(encoding="utf-8") as stream:
        cells = [(name, value) for row in csv.DictReader(stream) for name, value in row.items()]
    rates = {name: float(value) for name, value in cells if name.startswith("lr-") and value}
    assert "lr-AdamW/text.0" not in rates  # frozen
    assert rates["lr-AdamW/image.1"] == pytest.approx(2 * rates["lr-AdamW/image.0"])
    assert rates["lr-AdamW/rest"] == pytest.approx(2 * rates["lr-AdamW/image.3"])  # three stages above the stem

    # what was tested is the averaged model
    [record] = read_records(tmp_path)
    words = [f"--ckpt_path={seed / 'checkpoints' / 'best.ckpt'}", *FIT]
    config = ["--config", "experiments/phantom_cehnc.yaml", f"--runs_dir={tmp_path / 'again'}"]
    assert main(["test", *config, *SMALL_RUN, *overrides("phantom_cehnc", inputs), *words]) == 0
    assert read_records(tmp_path / "again")[0].ranks == record.ranks

    capsys.readouterr()
    (seed / "retrieval.json").unlink()  # not finished
    changed = [*FIT, "--trainer.max_epochs=3", *AVERAGE, f"{TOWERS}.freeze_text=2"]
    assert run("phantom_cehnc", inputs, tmp_path, changed, ["--resume"]) == 2
    message = capsys.readouterr().err
    assert "model.init_args.towers" in message
    assert "Traceback" not in message


def test_a_tower_that_cannot_is_named_before_the_training(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("phantom_cehnc", inputs, tmp_path, [f"{TOWERS}.freeze_image=9"]) == 2
    assert "cannot freeze 9 layers of LocalConvNet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (f"{TOWERS}.layer_decay=0", "layer_decay must be in (0, 1], got 0.0"),
        (f"{TOWERS}.gradient_checkpointing=[img]", "gradient_checkpointing"),
        (f"{PERFORMANCE}.compile_mode=fast", "compile_mode"),
    ],
)
def test_a_wrong_value_is_told_without_a_traceback(
    option: str, told: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("phantom_cehnc", inputs, tmp_path, [option]) == 2
    message = capsys.readouterr().err
    assert told in message
    assert "Union subtypes" not in message
    assert "Traceback" not in message
