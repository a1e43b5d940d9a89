"""When checkpoints are written, and how a training stops when it is asked to."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from medzeroseg.callbacks import step_checkpoint
from medzeroseg.callbacks.step_checkpoint import StepCheckpoint
from medzeroseg.callbacks.step_seeds import StepSeeds
from medzeroseg.errors import StoppedError
from medzeroseg.slurm import job
from medzeroseg.stop_signals import listening


class Dropping(LightningModule):
    """Draws random numbers in training and in validation; notes the former."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.drawn: list[float] = []

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        self.drawn.append(float(torch.rand(())))
        return self.layer(batch).sum()

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        torch.rand(3)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Saves(Callback):
    """Notes at which step and batch a checkpoint is made."""

    def __init__(self) -> None:
        self.at: list[tuple[int, int]] = []

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.at.append((checkpoint["epoch"], trainer.global_step))


class Signal(Callback):
    """Sends this process a signal before a step."""

    def __init__(self, number: signal.Signals, step: int) -> None:
        self.number, self.step = number, step

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


class SignalInValidation(Callback):
    def __init__(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.number = number

    def on_validation_batch_start(self, *_: Any) -> None:
        os.kill(os.getpid(), self.number)


def fit(folder: Path, *callbacks: Callback, every: int = 3, **options: Any) -> tuple[Dropping, Saves]:
    saves, model = Saves(), Dropping()
    trainer = Trainer(
        **{"accelerator": "cpu", "max_epochs": 2, "num_sanity_val_steps": 0, "logger": False, **options},
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[StepSeeds(7), StepCheckpoint(str(folder), every), saves, *callbacks],
    )
    data = DataLoader(torch.ones(10, 2), batch_size=1)
    with listening():
        try:
            trainer.fit(model, data, DataLoader(torch.ones(2, 2)))
        except StoppedError as error:
            model.stopped = str(error)
    return model, saves


def test_every_so_many_steps_but_not_where_validation_follows(tmp_path: Path) -> None:
    _, saves = fit(tmp_path, every=5)
    assert saves.at == [(0, 5), (1, 11), (1, 16)]  # step 10 ends an epoch
    _, saves = fit(tmp_path, every=5, val_check_interval=5)
    assert saves.at == [(0, 6), (1, 11), (1, 16)]
    _, saves = fit(tmp_path, every=2, accumulate_grad_batches=2)
    assert saves.at == [(0, 2), (0, 4), (1, 6), (1, 8)]
    _, saves = fit(tmp_path, every=0)
    assert saves.at == []
    with pytest.raises(ValueError, match="every_n_steps"):
        StepCheckpoint("x", -1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_saves_after_the_step_and_stops(tmp_path: Path, number: signal.Signals) -> None:
    model, saves = fit(tmp_path, Signal(number, 3), every=0)
    assert saves.at == [(0, 4)]
    assert len(model.drawn) == 4
    assert "after step 4" in model.stopped
    assert "RESUME=1" in model.stopped
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4


def test_a_signal_in_validation_stops_without_a_checkpoint(tmp_path: Path) -> None:
    model, saves = fit(tmp_path, SignalInValidation(), every=0)
    assert saves.at == []
    assert len(model.drawn) == 10
    assert "in the validation, which will be done again" in model.stopped


def test_a_slurm_job_goes_back_in_the_queue_or_waits_to_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SLURM_JOB_ID": "41", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "bash"}.items():
        monkeypatch.setenv(name, value)  # by that name Lightning takes it for a shell of somebody's
    calls: list[list[str]] = []
    result = job.subprocess.CompletedProcess([], 0, "", "")
    monkeypatch.setattr(job.subprocess, "run", lambda words, **_: calls.append(words) or result)
    monkeypatch.setattr(step_checkpoint, "wait_for_the_end", lambda: calls.append(["wait"]))
    model, saves = fit(tmp_path, Signal(signal.SIGUSR1, 3), every=0)
    assert (saves.at, calls) == ([(0, 4)], [["scontrol", "requeue", "41"]])
    assert "back in the queue" in model.stopped
    calls.clear()
    fit(tmp_path, Signal(signal.SIGTERM, 3), every=0)
    assert calls == [["wait"]]
    calls.clear()
    _, saves = fit(tmp_path, SignalInValidation(signal.SIGUSR1), every=0)
    assert (saves.at, calls) == ([], [["scontrol", "requeue", "41"], ["wait"]])
    result.returncode, result.stderr = 1, "Job is finishing"
    model, _ = fit(tmp_path, Signal(signal.SIGUSR1, 3), every=0)
    assert "scontrol requeue 41` failed: Job is finishing. Submit it again" in model.stopped


def test_random_numbers_depend_on_the_step_alone(tmp_path: Path) -> None:
    whole, _ = fit(tmp_path)
    assert len(set(whole.drawn)) == 20
    more_validation, _ = fit(tmp_path, val_check_interval=2)
    assert more_validation.drawn == whole.drawn
    model = Dropping()
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[StepSeeds(8)],
    )
    trainer.fit(model, DataLoader(torch.ones(10, 2), batch_size=1))
    assert not set(model.drawn) & set(whole.drawn)
