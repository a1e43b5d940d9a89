"""Overlays in validation: of the same cases each time, their largest slices, and without any trace in the training."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medzeroseg.callbacks import ValidationSheet, validation_sheet
from medzeroseg.dashboard import LAYOUT
from medzeroseg.tasks import SegmentationTask
from tests.helpers.fake_data import write_acdc_h5
from tests.tasks.test_segmentation import hearts, make_task, make_trainer

STRUCTURES = {"small": (1,), "large": (2, 3)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_acdc_h5(tmp_path_factory.mktemp("acdc"))


def fit(root: Path, folder: Path, logger: Any, callbacks: list[Any]) -> SegmentationTask:
    seed_everything(0)
    task = make_task()
    make_trainer(folder, logger=logger, callbacks=callbacks).fit(task, datamodule=hearts(root))
    return task


def test_weights_are_those_of_a_training_that_shows_nothing(root: Path, tmp_path: Path) -> None:
    board = TensorBoardLogger(tmp_path, name="", version="board")
    shown = fit(root, tmp_path, board, [ValidationSheet()]).state_dict()
    plain = fit(root, tmp_path / "plain", False, []).state_dict()
    assert all(torch.equal(shown[name], plain[name]) for name in plain)
    events = EventAccumulator(str(tmp_path / "board"), {"images": 0})
    events.Reload()
    assert len(events.Images("val/segmentation")) == 2  # epochs
    # every chart for segmentation finds its curves
    for _, patterns in LAYOUT["Segmentation"].values():
        assert all(any(re.match(pattern, name) for name in events.Tags()["scalars"]) for pattern in patterns)


def test_other_loggers_are_left_alone(root: Path, tmp_path: Path) -> None:
    sheet = ValidationSheet()
    fit(root, tmp_path, CSVLogger(tmp_path, name="", version="csv"), [sheet])
    assert not sheet._kept


class Network:
    """Finds the structure of the ids 2 and 3 in the left half."""

    def labels_at(self, probabilities: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        labels = torch.zeros(1, *size, dtype=torch.uint8)
        labels[..., : size[1] // 2] = 3
        return labels

    def of_union(self, probabilities: torch.Tensor, ids: tuple[int, ...]) -> torch.Tensor:
        return probabilities[:, list(ids)].sum(dim=1)


def test_of_a_case_the_slice_with_most_outlined_pixels_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    class Task:
        structures, network, current_epoch = STRUCTURES, Network(), 4

        def __call__(self, image: torch.Tensor) -> torch.Tensor:
            asked.append(image.mean().item())
            return torch.full((1, 4, 8, 8), 0.25)

    masks = [torch.zeros(16, 16, dtype=torch.uint8) for _ in range(4)]
    masks[1][2:8, 2:8] = 2
    masks[2][2:4, 2:4] = 1
    masks[3][:] = 1  # of a case that is not chosen
    batch = {
        "case_id": ["a", "a", "a", "b"],
        "image": torch.arange(4.0)[:, None, None, None].expand(4, 1, 8, 8),
        "native_image": [torch.zeros(16, 16)] * 4,
        "native_mask": masks,
        "label_names": {1: "small"},
    }
    trainer: Any = SimpleNamespace(
        datamodule=SimpleNamespace(cases=lambda _: [SimpleNamespace(case_id="a")]), sanity_checking=False
    )
    monkeypatch.setattr(validation_sheet, "tensorboards", lambda _: ["a writer"])
    sheet, task = ValidationSheet(), Task()
    sheet.on_validation_epoch_start(trainer, task)  # type: ignore[arg-type]
    sheet.on_validation_batch_end(trainer, task, None, batch, 0)  # type: ignore[arg-type]
    assert asked == [0, 1]  # the third slice shows less than the second
    assert list(sheet._kept) == ["a"]
    drawn = sheet._kept["a"].sheet
    assert drawn.structures == ["large", "small"]
    assert torch.equal(drawn.reference[0], masks[1] == 2)
    [(masks_found, probability)] = drawn.results.values()
    assert list(drawn.results) == ["network, epoch 4"]
    assert masks_found[0].sum() == 16 * 8
    assert not masks_found[1].any()
    torch.testing.assert_close(probability, torch.full((16, 16), 0.5))  # of two ids


def test_no_case_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ValidationSheet(cases=0)
