"""Maps while a model trains: of the same pictures each time, and without any trace in the training."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medzeroseg.callbacks import EmbeddingProjector, SaliencyEvolution
from medzeroseg.callbacks.saliency_evolution import MapRow, choose_pictures, draw_map_rows, largest_structures
from medzeroseg.callbacks.step_seeds import StepSeeds
from medzeroseg.losses import InfoNCELoss
from medzeroseg.models import ImageTextModel
from medzeroseg.tasks import ContrastiveTask
from tests.helpers.fake_pairs import SIZES, FakeDataModule


def record(name: str, kind: str | None, labels: np.ndarray | None = None) -> Any:
    parts = {"small": (1,), "large": (2, 3), "absent": (9,)}
    source = SimpleNamespace(read_label=lambda: labels)
    known = None if kind is None else SimpleNamespace(kind=kind, labels=source, parts=parts)
    return SimpleNamespace(case_id=name, structures=known)


def test_every_kind_of_picture_is_shown_and_known_ones_come_first() -> None:
    records = [record(f"mr{n}", "MR") for n in range(9)] + [record("ct", "CT"), record("unknown", None)]
    assert [one.case_id for one in choose_pictures(records, 4)] == ["ct", "mr2", "mr6"]
    assert [one.case_id for one in choose_pictures(records, 1)] == ["ct", "mr4"]
    assert [one.case_id for one in choose_pictures(records[-1:], 3)] == ["unknown"]
    assert choose_pictures([], 3) == []


def test_the_largest_structures_are_asked_for() -> None:
    labels = np.array([[0, 1, 1], [2, 3, 3], [2, 2, 7]])
    found = largest_structures(record("a", "CT", labels), 2)
    assert list(found) == ["large", "small"]
    assert found["large"].tolist() == np.isin(labels, (2, 3)).tolist()
    assert list(largest_structures(record("a", "CT", labels), 1)) == ["large"]
    assert largest_structures(record("a", None), 2) == {}


def test_each_prompt_has_its_map_and_known_places_their_outline() -> None:
    dark, place = torch.zeros(40, 40), torch.zeros(40, 40, dtype=torch.bool)
    place[10:30, 10:30] = True
    plain = np.asarray(draw_map_rows([MapRow(dark, {"liver": dark}, {})]))
    outlined = np.asarray(draw_map_rows([MapRow(dark, {"liver": dark}, {"liver": place})]))
    two = np.asarray(draw_map_rows([MapRow(dark, {"liver": dark, "spleen": dark}, {})] * 2))
    assert two.shape[0] == 2 * plain.shape[0]
    assert two.shape[1] == plain.shape[1] * 3 // 2
    map_cell = np.s_[20:150, 150:290]
    bright = [(sheet[map_cell].min(axis=2) > 150).sum() for sheet in (plain, outlined)]  # enlarging blurs the edge
    assert bright[0] == 0
    assert bright[1] > 200


def fit(folder: Path, callbacks: list[Callback], logger: Any) -> tuple[ContrastiveTask, Trainer]:
    torch.manual_seed(0)
    task = ContrastiveTask(ImageTextModel("small"), InfoNCELoss())
    data = FakeDataModule(SIZES)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=2,
        default_root_dir=folder,
        logger=logger,
        callbacks=[StepSeeds(3), *callbacks],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    trainer.fit(task, datamodule=data)
    trainer.test(task, datamodule=data, verbose=False)
    return task, trainer


def test_weights_are_those_of_a_training_that_shows_nothing(tmp_path: Path) -> None:
    plain, _ = fit(tmp_path / "plain", [], CSVLogger(tmp_path / "plain"))
    board = TensorBoardLogger(tmp_path / "shown", name="", version="tensorboard")
    shown, trainer = fit(tmp_path / "shown", [SaliencyEvolution(), EmbeddingProjector(pairs=2)], board)
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), shown.state_dict().values(), strict=True))
    events = EventAccumulator(str(tmp_path / "shown" / "tensorboard"), {"images": 0})
    events.Reload()
    assert [event.step for event in events.Images("val/saliency")] == [2, 4]
    [points] = (tmp_path / "shown" / "tensorboard").glob("*/test/tensors.tsv")
    assert len(points.read_text().splitlines()) == 4  # two images, two texts
    assert trainer.global_step == 4


def test_other_loggers_are_left_alone(tmp_path: Path) -> None:
    callbacks = [SaliencyEvolution(), EmbeddingProjector()]
    fit(tmp_path, callbacks, CSVLogger(tmp_path, name="", version="csv"))
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["metrics.csv"]


@pytest.mark.parametrize("name", ["every_n_epochs", "pictures", "prompts"])
def test_numbers_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SaliencyEvolution(**{name: 0})


def test_a_projector_of_no_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        EmbeddingProjector(pairs=0)
