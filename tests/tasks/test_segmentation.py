"""A network learns tiny hearts, is scored as whole cases, and depends on its seed alone."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from data_modules import ACDCDataModule
from medzeroseg.callbacks.segmentation import SegmentationEvaluator
from medzeroseg.callbacks.step_seeds import StepSeeds
from medzeroseg.errors import CheckpointError, ConfigurationError
from medzeroseg.metrics.segmentation import overlap_scores
from medzeroseg.models import ImageTextModel
from medzeroseg.models.segmentation_networks import DynUNet, ResUNet
from medzeroseg.models.slice_segmenter import SliceSegmenter
from medzeroseg.saliency import PatchTextSimilarity
from medzeroseg.schedules import WarmupCosine
from medzeroseg.tables.segmentation_records import CaseScore
from medzeroseg.tasks import SegmentationTask, cases
from medzeroseg.tasks.cases import slice_names, training_pixels
from medzeroseg.weak_supervision import ZeroShotTeacher
from medzeroseg.zero_shot import ZeroShotMethod
from tests.helpers.fake_data import write_acdc_h5
from tests.helpers.fake_segmentation import ArraysDataModule, write_cases
from tests.helpers.process_pool import run_in_processes


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_acdc_h5(tmp_path_factory.mktemp("acdc"))


def hearts(root: Path, **options: Any) -> ACDCDataModule:
    settings = {"num_workers": 0, "batch_size": 8, "image_size_px": 32, "cache_dir": root / "cache"}
    return ACDCDataModule(root, **(settings | options))


def make_task(**options: Any) -> SegmentationTask:
    settings = {
        "network": ResUNet((8, 16, 32), residual_units=1),
        "optimizer": lambda params: torch.optim.AdamW(params, lr=1e-2),
        "lr_schedule": WarmupCosine(),
    }
    return SegmentationTask(**(settings | options))


def make_trainer(folder: Path, epochs: int = 2, **options: Any) -> Trainer:
    settings: dict[str, Any] = {
        "default_root_dir": folder,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "max_epochs": epochs,
    }
    return Trainer(**(settings | options))


def train(root: Path, folder: Path, epochs: int = 2, seed: int = 0, **options: Any) -> SegmentationTask:
    seed_everything(seed)
    task = make_task(**options)
    trainer = make_trainer(folder, epochs)
    trainer.fit(task, datamodule=hearts(root))
    return task


def scores(task: SegmentationTask) -> list[CaseScore]:
    return task.evaluator.scores("network")


def test_it_learns_tiny_hearts(root: Path, tmp_path: Path) -> None:
    task = train(root, tmp_path, epochs=40)
    trainer = make_trainer(tmp_path)
    [means] = trainer.test(task, datamodule=hearts(root), verbose=False)
    assert means["test/network/dsc"] > 90
    assert means["test/network/auc"] > 99
    assert {score.structure for score in scores(task)} == {"right ventricle", "myocardium", "left ventricle"}
    assert len(scores(task)) == 3 * len({score.case_id for score in scores(task)}) == 12


@pytest.mark.parametrize(
    "options", [{"window_px": 16}, {"network": DynUNet((8, 16, 32), 1)}, {"test_time_flips": True}]
)
def test_windows_deep_supervision_and_flips_learn_too(root: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    [before] = make_trainer(tmp_path).test(make_task(**options), datamodule=hearts(root), verbose=False)
    task = train(root, tmp_path, epochs=10, **options)
    [after] = make_trainer(tmp_path).test(task, datamodule=hearts(root), verbose=False)
    assert after["test/network/dsc"] > before["test/network/dsc"] + 20


def test_where_windows_lie_does_not_depend_on_the_batch(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Tensor] = {}

    def note(batch: dict[str, Any], network: SliceSegmenter, draw: str) -> tuple[Tensor, Tensor]:
        images, classes = training_pixels(batch, network, draw)
        drawn.update(zip(slice_names(batch), images, strict=True))
        return images, classes

    monkeypatch.setattr(cases, "training_pixels", note)
    of_size = []
    for batch_size in (4, 8):
        seed_everything(0)
        drawn = {}
        trainer = make_trainer(tmp_path, 1, callbacks=[StepSeeds(0)], limit_val_batches=0)
        trainer.fit(make_task(window_px=16), datamodule=hearts(root, batch_size=batch_size))
        of_size.append(drawn)
    both = of_size[0].keys() & of_size[1].keys()
    assert len(both) >= 8
    assert all(torch.equal(of_size[0][name], of_size[1][name]) for name in both)


def test_the_seed_decides_alone(root: Path, tmp_path: Path) -> None:
    runs = [train(root, tmp_path, seed=seed).state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(value, runs[1][name]) for name, value in runs[0].items())
    assert not all(torch.equal(value, runs[2][name]) for name, value in runs[0].items())


def test_resumed_ends_where_unbroken_ends(root: Path, tmp_path: Path) -> None:
    def fit(folder: Path, epochs: int, start: Path | None = None, limit: int = 4) -> dict[str, Tensor]:
        seed_everything(0)
        task = make_task()
        saving = ModelCheckpoint(folder, filename="last")
        trainer = make_trainer(folder, limit, enable_checkpointing=True, callbacks=[saving, StopAfter(epochs)])
        trainer.fit(task, datamodule=hearts(root), ckpt_path=start, weights_only=True)
        return task.state_dict()

    whole = fit(tmp_path / "whole", 4)
    fit(tmp_path / "broken", 2)
    resumed = fit(tmp_path / "broken", 4, tmp_path / "broken" / "last.ckpt")
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


class StopAfter(ModelCheckpoint):
    """Ends the training after so many epochs of a longer run."""

    def __init__(self, epochs: int) -> None:
        super().__init__(save_top_k=0)
        self.epochs = epochs

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def test_validation_is_the_dsc_of_whole_cases_at_native_size(root: Path, tmp_path: Path) -> None:
    task = train(root, tmp_path, epochs=3)
    data = hearts(root)
    trainer = make_trainer(tmp_path)
    [means] = trainer.validate(task, datamodule=data, verbose=False)
    cases: dict[str, list[tuple[Tensor, Tensor]]] = {}
    task.eval()
    with torch.no_grad():
        for batch in data.val_dataloader():
            for n, mask in enumerate(batch["native_mask"]):
                labels = task.network.labels_at(task(batch["image"][n : n + 1]), mask.shape)[0]
                cases.setdefault(batch["case_id"][n], []).append((labels, mask))
    expected = []
    for slices in cases.values():
        found, true = (torch.stack(list(part)) for part in zip(*slices, strict=True))
        ids = torch.tensor([1, 2, 3]).view(-1, 1, 1, 1)
        expected.append(overlap_scores(found == ids, true == ids)[0].nanmean())
    assert means["val/dsc"] == pytest.approx(100 * float(torch.stack(expected).mean()), rel=1e-5)


def _test_on_a_rank(root: Path, folder: Path, state: dict[str, Tensor]) -> tuple[dict[str, float], list[CaseScore]]:
    rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    task = make_task()
    data = hearts(root, cache_dir=folder / f"cache{rank}")
    trainer = make_trainer(folder)
    trainer.fit_loop.max_epochs = 0
    # one process group as in DDP; the loader deals whole cases
    data.trainer = _Ranks(rank, size)  # type: ignore[assignment]
    data.setup("test")
    data.setup("validate")
    task.trainer = _Ranks(rank, size, data)  # type: ignore[assignment]
    task.setup("test")
    task.load_state_dict(state)
    task.eval()
    logged: dict[str, float] = {}
    task.log_dict = lambda values, **_: logged.update({key: float(value) for key, value in values.items()})  # type: ignore
    with torch.no_grad():
        task.on_validation_epoch_start()
        for n, batch in enumerate(data.val_dataloader()):
            task.validation_step(batch, n)
        task.on_validation_epoch_end()
        task.on_test_epoch_start()
        for n, batch in enumerate(data.test_dataloader()):
            task.test_step(batch, n)
        # Lightning's order: callbacks before the task, which asks whether the gathered scores are of every case
        SegmentationEvaluator.on_test_epoch_end(task.evaluator, task.trainer, task)
        task.on_test_epoch_end()
    return logged, scores(task)


class _Ranks:
    """What of a trainer these hooks read."""

    def __init__(self, rank: int, size: int, datamodule: Any = None) -> None:
        self.global_rank, self.world_size, self.datamodule = rank, size, datamodule
        self.training = False
        self.limit_test_batches = 1.0
        self.callbacks: list[Any] = []


@pytest.mark.slow
def test_two_processes_score_as_one_does(root: Path, tmp_path: Path) -> None:
    task = train(root, tmp_path, epochs=3)
    trainer = make_trainer(tmp_path)
    [tested] = trainer.test(task, datamodule=hearts(root), verbose=False)
    alone = scores(task)
    [validated] = make_trainer(tmp_path).validate(task, datamodule=hearts(root), verbose=False)
    state = {name: value for name, value in task.state_dict().items() if name.startswith("network.")}
    for means, of_rank in run_in_processes(_test_on_a_rank, 2, root, tmp_path, state):
        assert [(s.case_id, s.structure) for s in of_rank] == [(s.case_id, s.structure) for s in alone]
        for one, other in zip(of_rank, alone, strict=True):
            assert (one.dsc, one.iou, one.auc) == pytest.approx((other.dsc, other.iou, other.auc), nan_ok=True)
        for key, value in (tested | validated).items():
            assert means[key] == pytest.approx(value, rel=1e-5), key


def test_a_taught_network_reads_no_reference_before_the_test(tmp_path: Path) -> None:
    names = {"train": ["p1_a", "p2_a"], "val": ["p3_a"], "test": ["p4_a"]}
    states = []
    for label in (1, 2):  # the reference differs, the images do not
        root = write_cases(tmp_path / f"data{label}", names, label=label)
        seed_everything(0)
        method = ZeroShotMethod(PatchTextSimilarity())
        teacher = ZeroShotTeacher(ImageTextModel("small"), method, folder=str(tmp_path / f"masks{label}"))
        task = make_task(teacher=teacher)
        make_trainer(tmp_path, 1).fit(task, datamodule=ArraysDataModule(root))
        states.append(task.state_dict())
        assert not any("teacher" in name for name in states[-1])
        [result] = task_results(task)
        assert (result.labels_used, result.reveals_ground_truth) == (False, False)
        assert "Patch-text similarity" in result.title
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def task_results(task: SegmentationTask) -> list[Any]:
    task.evaluator.begin(["ball"], ["network"], ["p4_a"])
    return task.method_results()


def test_a_network_inherits_how_its_teacher_was_chosen(tmp_path: Path) -> None:
    for chosen in (False, True):
        method = ZeroShotMethod(PatchTextSimilarity(), chosen_on_validation=chosen)
        teacher = ZeroShotTeacher(ImageTextModel("small"), method, folder=str(tmp_path))
        [result] = task_results(make_task(teacher=teacher))
        assert (result.labels_used, result.chosen_on_validation) == (False, chosen)


def test_full_supervision_says_that_labels_were_used() -> None:
    [result] = task_results(make_task())
    assert result.labels_used
    assert result.title == "ResUNet"


def test_weights_for_other_labels_are_refused(root: Path, tmp_path: Path) -> None:
    task = train(root, tmp_path, epochs=1)
    checkpoint = {"state_dict": {name: value.clone() for name, value in task.state_dict().items()}}
    checkpoint["state_dict"]["network.label_ids"][1] = 7
    with pytest.raises(CheckpointError, match=r"label ids \[0, 7, 2, 3\], the data has \[0, 1, 2, 3\]"):
        task.on_load_checkpoint(checkpoint)


def test_what_does_not_fit_is_said_before_the_training(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="window_px must be a multiple of 4, got 18"):
        make_task(window_px=18)
    with pytest.raises(ConfigurationError, match="image_size_px must be a multiple of 4, not 30"):
        make_trainer(tmp_path).fit(make_task(), datamodule=hearts(root, image_size_px=30))
    with pytest.raises(ConfigurationError, match=r"multiple of 4, not 30, or .*window_px \(32\) below 30"):
        make_trainer(tmp_path).fit(make_task(window_px=32), datamodule=hearts(root, image_size_px=30))
