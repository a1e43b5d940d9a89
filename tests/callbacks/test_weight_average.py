"""Averaged weights: the recursion, what sees them, and trainings that go on."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medzeroseg.callbacks import WeightAverage
from medzeroseg.callbacks.step_checkpoint import StepCheckpoint
from medzeroseg.callbacks.step_seeds import StepSeeds
from medzeroseg.checkpoints import read_checkpoint, require_same_architecture
from medzeroseg.errors import CheckpointError, StoppedError
from medzeroseg.stop_signals import listening
from medzeroseg.tasks.base import BaseTask
from tests.callbacks.test_step_checkpoint import Signal
from tests.tasks.test_performance import hearts, segmentation

DECAY, LR = 0.5, 1.0


class Descending(BaseTask):
    """The weight loses what the batch says in each step: 0, -1, -3, -6 for the batches 1, 2, 3."""

    def __init__(self) -> None:
        super().__init__(lambda params: torch.optim.SGD(params, lr=LR))
        self.register_buffer("ids", torch.tensor([0, 3, 7], dtype=torch.uint8))
        self.register_buffer("running", torch.zeros(()))
        self.register_buffer("mask", torch.tensor([0.1, -torch.inf]), persistent=False)
        self.seen: dict[str, list[float]] = {"train": [], "val": [], "val end": [], "test": []}

    def setup(self, stage: str) -> None:
        if not hasattr(self, "layer"):  # as tasks do that wait for their data
            self.layer = nn.Linear(1, 1, bias=False)
            nn.init.zeros_(self.layer.weight)

    def _see(self, when: str) -> None:
        self.seen[when].append(float(self.layer.weight))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self._see("train")
        self.running += batch["image"].mean()
        return (self.layer.weight * batch["image"]).mean()

    def on_validation_epoch_start(self) -> None:
        self.metric = nn.Module()
        self.metric.register_buffer("members", torch.ones(3), persistent=False)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._see("val")
        assert self.mask.tolist() == pytest.approx([0.1, -torch.inf])
        self.log("val/weight", self.layer.weight.detach().squeeze())

    def on_validation_epoch_end(self) -> None:
        self._see("val end")

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self._see("test")


class Numbers(LightningDataModule):
    def loader(self, *values: float) -> DataLoader[Any]:
        return DataLoader([{"image": torch.tensor([value])} for value in values], batch_size=None)  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader(1.0, 2.0, 3.0)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader(0.0)

    test_dataloader = val_dataloader


def make_trainer(folder: Path, *callbacks: Callback, **options: Any) -> Trainer:
    settings: dict[str, Any] = {"max_epochs": 1, "num_sanity_val_steps": 0, "enable_progress_bar": False} | options
    saving = [ModelCheckpoint(folder, name, enable_version_counter=False) for name in ("last",)]
    return Trainer(
        accelerator="cpu", logger=False, enable_model_summary=False, callbacks=[*callbacks, *saving], **settings
    )


def test_the_average_is_the_recursion_and_what_evaluation_sees(tmp_path: Path) -> None:
    task, trainer = Descending(), make_trainer(tmp_path, WeightAverage(DECAY))
    trainer.fit(task, datamodule=Numbers())
    average = 0.5 * (0.5 * -1 + 0.5 * -3) + 0.5 * -6  # begun with the weights after the first step
    assert task.seen["train"] == [0, -1, -3]  # the training goes its own way
    assert task.seen["val"] == task.seen["val end"] == [average] == [-4.0]
    written = read_checkpoint(tmp_path / "last.ckpt")
    require_same_architecture(written, task.state_dict())
    assert float(written["state_dict"]["layer.weight"]) == average
    assert float(written["current_model_state"]["layer.weight"]) == -6
    assert written["state_dict"]["ids"].tolist() == [0, 3, 7]
    assert float(written["state_dict"]["running"]) == 0.5 * (0.5 * 1 + 0.5 * 3) + 0.5 * 6
    assert float(task.layer.weight) == average  # after the training, too
    trainer.test(task, datamodule=Numbers(), ckpt_path=tmp_path / "last.ckpt", weights_only=True, verbose=False)
    assert task.seen["test"] == [average]  # not the trained weights, which are in the checkpoint as well


def test_every_second_step(tmp_path: Path) -> None:
    task = Descending()
    make_trainer(tmp_path, WeightAverage(DECAY, every_n_steps=2)).fit(task, datamodule=Numbers())
    assert float(task.layer.weight) == 0.5 * -1 + 0.5 * -6


class Wandering(Descending):
    """Draws its gradients."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.running += torch.rand(())
        return (self.layer.weight * torch.randn(())).mean()


def wander(folder: Path, *callbacks: Callback, start: Path | None = None) -> tuple[Wandering, dict[str, Any]]:
    task = Wandering()
    trainer = make_trainer(
        folder, WeightAverage(0.9), StepSeeds(3), StepCheckpoint(str(folder), 2), *callbacks, max_epochs=3
    )
    with listening():
        trainer.fit(task, datamodule=Numbers(), ckpt_path=start, weights_only=True)
    return task, read_checkpoint(folder / "last.ckpt")


def test_a_training_that_is_broken_off_goes_on_to_the_same_average_bit_by_bit(tmp_path: Path) -> None:
    whole, expected = wander(tmp_path / "whole")
    with pytest.raises(StoppedError, match="after step 5"):
        wander(tmp_path / "broken", Signal(signal.SIGTERM, 4))  # in the middle of the second epoch
    resumed, found = wander(tmp_path / "broken", start=tmp_path / "broken" / "last.ckpt")
    assert found["global_step"] == expected["global_step"] == 9
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert found[part].keys() == expected[part].keys()
        for name, value in expected[part].items():
            assert torch.equal(found[part][name], value), (part, name)
    assert torch.equal(resumed.layer.weight, whole.layer.weight)
    assert not torch.equal(expected["state_dict"]["layer.weight"], expected["current_model_state"]["layer.weight"])


def test_a_training_goes_on_with_the_average_only(tmp_path: Path) -> None:
    make_trainer(tmp_path, WeightAverage(DECAY)).fit(Descending(), datamodule=Numbers())
    with pytest.raises(CheckpointError, match="averaged weights"):
        make_trainer(tmp_path / "other", max_epochs=2).fit(
            Descending(), datamodule=Numbers(), ckpt_path=tmp_path / "last.ckpt", weights_only=True
        )


def test_an_average_begun_late_starts_from_the_checkpoint(tmp_path: Path) -> None:
    make_trainer(tmp_path).fit(Descending(), datamodule=Numbers())
    task = Descending()
    make_trainer(tmp_path / "other", WeightAverage(DECAY), max_epochs=2).fit(
        task, datamodule=Numbers(), ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )
    assert float(task.layer.weight) == 0.5 * (0.5 * -7 + 0.5 * -9) + 0.5 * -12


@pytest.mark.parametrize("option", [{"decay": 1.0}, {"decay": -0.1}, {"every_n_steps": 0}])
def test_arguments_out_of_range_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(option))):
        WeightAverage(**option)


def test_a_network_made_for_the_data_is_averaged_and_tested(tmp_path: Path) -> None:
    """It is not there when the callback is set up; validation gives the task a metric with buffers."""
    task, trainer = segmentation(), make_trainer(tmp_path, WeightAverage(0.9), max_epochs=3)
    trainer.fit(task, datamodule=hearts(tmp_path))
    written = read_checkpoint(tmp_path / "last.ckpt")
    names = [name for name in written["state_dict"] if name.startswith("network.")]
    assert names
    assert all(torch.equal(task.state_dict()[name], written["state_dict"][name]) for name in names)
    assert not all(torch.equal(written["current_model_state"][name], written["state_dict"][name]) for name in names)
    assert written["state_dict"]["network.label_ids"].tolist() == [0, 1, 2, 3]
    [after_fit] = trainer.test(task, datamodule=hearts(tmp_path), verbose=False)
    [of_file] = make_trainer(tmp_path / "test").test(
        segmentation(), hearts(tmp_path), ckpt_path=tmp_path / "last.ckpt", weights_only=True, verbose=False
    )
    assert of_file == pytest.approx(after_fit, nan_ok=True)
