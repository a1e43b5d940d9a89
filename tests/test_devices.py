"""GPUs that are asked for: had, or said not to be there."""

import subprocess
from pathlib import Path

import pytest
import torch

from medzeroseg.devices import trainer_options
from medzeroseg.errors import ConfigurationError
from medzeroseg.main import main


def _see(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


def test_what_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    _see(monkeypatch, 8)
    assert trainer_options(8) == ["--trainer.accelerator=gpu", "--trainer.devices=8"]
    assert trainer_options(1) == ["--trainer.accelerator=gpu", "--trainer.devices=1"]
    assert trainer_options(0) == ["--trainer.accelerator=cpu", "--trainer.devices=1"]
    assert trainer_options(None) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    _see(monkeypatch, 2)
    with pytest.raises(
        ConfigurationError, match=r"GPUS=8: .* sees 2 GPUs here \(CUDA_VISIBLE_DEVICES='0,1'\); ask for"
    ):
        trainer_options(8)


def test_gpus_that_are_not_there_are_said_before_anything_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], project_root: Path
) -> None:
    _see(monkeypatch, 0)
    monkeypatch.chdir(project_root)
    for asked, told in (("8", "sees 0 GPUs here"), ("-1", "must be 0 or more")):
        assert main(["train", "phantom_cehnc", "--gpus", asked]) == 2
        message = capsys.readouterr().err
        assert message.startswith("medzeroseg: ")
        assert told in message


def _commands(project_root: Path, *words: str) -> str:
    told = subprocess.run(["make", "-n", *words], cwd=project_root, capture_output=True, text=True, check=True)
    return told.stdout


def test_make_asks_for_gpus_only_where_a_person_does(project_root: Path) -> None:
    assert "--gpus 8 " in _commands(project_root, "train", "EXP=phantom_cehnc", "GPUS=8", "RESUME=1")
    assert "--gpus" not in _commands(project_root, "train", "EXP=phantom_cehnc")
    assert "--gpus 1 " in _commands(project_root, "slurm", "EXP=phantom_cehnc")
    assert "--gpus 0 " in _commands(project_root, "slurm", "EXP=phantom_cehnc", "GPUS=0")
