"""Where maps lie, against hand-made pictures, and through a run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from data_modules import PhantomROCODataModule
from medzeroseg.callbacks import Localisation
from medzeroseg.callbacks.localisation import score_maps, summarise
from medzeroseg.errors import ConfigurationError
from medzeroseg.losses import CEHNCLoss
from medzeroseg.models import ImageTextModel, PatchTower
from medzeroseg.tables import build_tables
from medzeroseg.tables.localisation_records import LocalisationRecord
from medzeroseg.tasks import ContrastiveTask

RECORD = SimpleNamespace(structures=SimpleNamespace(parts={"liver": (1,), "organs": (1, 2), "spleen": (3,)}))
LABELS = torch.tensor([[1, 1, 0, 0], [2, 0, 0, 255]])


def test_scores_of_a_picture_by_hand() -> None:
    right = torch.tensor([[3.0, 2, 0, 0], [1, 0, 0, 9]])  # the unknown pixel is the brightest, and does not count
    away = -right
    found = score_maps(torch.stack([right, right, away]), LABELS, ("liver", "organs", "unheard of"), RECORD)
    assert found["liver"].tolist() == pytest.approx([1, 1, 2 / 7])
    assert found["organs"].tolist() == pytest.approx([1, 1, 3 / 7])
    assert "unheard of" not in found  # nobody knows where it is
    found = score_maps(torch.stack([away, right]), LABELS, ("liver", "spleen"), RECORD)
    assert found["liver"].tolist() == pytest.approx([0, 0, 2 / 7])
    assert "spleen" not in found  # the picture shows none
    one = summarise("val", "CT", "liver", [torch.tensor([1.0, 1, 0.2]), torch.tensor([0.5, 0, 0.4])])
    assert (one.pictures, one.auc, one.pointing) == (2, 0.75, 0.5)
    assert one.area == pytest.approx(0.3)


def _run(folder: Path, callback: Localisation, *, patch_tower: bool = True) -> dict[str, Any]:
    torch.manual_seed(0)
    model = ImageTextModel("small", patch_tower=PatchTower if patch_tower else None)
    data = PhantomROCODataModule(
        folder / "data", train=4, validation=9, test=9, num_workers=0, phantom_workers=0, image_size_px=64
    )
    trainer = pl.Trainer(
        default_root_dir=folder / "phantom" / "seed_0",
        accelerator="cpu",
        logger=False,
        callbacks=[callback],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    [logged] = trainer.test(ContrastiveTask(model, CEHNCLoss()), datamodule=data, verbose=False)
    return dict(logged)


def test_a_run_says_where_its_maps_lie_on_both_splits(tmp_path: Path) -> None:
    logged = _run(tmp_path, Localisation("phantom", "small", "phantom", per_kind=2))
    record = LocalisationRecord.read(tmp_path / "phantom" / "seed_0")
    assert {one.split for one in record.structures} == {"val", "test"}
    assert {one.kind for one in record.structures} <= {"cardiac MRI", "abdominal CT", "chest X-ray"}
    assert max(one.pictures for one in record.structures) <= 2
    for split in ("val", "test"):
        for name in ("auc", "pointing"):
            values = [getattr(one, name) for one in record.structures if one.split == split]
            assert logged[f"{split}/localisation_{name}"] == pytest.approx(sum(values) / len(values))
    tables = {table.name: table for table in build_tables(tmp_path / "phantom")}
    [row] = tables["localisation"].values
    assert row["val_auc"] == [pytest.approx(logged["val/localisation_auc"])]
    known = {(one.kind, one.structure) for one in record.structures}
    assert len(tables["localisation_structures"].rows) == len(known) == row["structures"]
    assert (tmp_path / "phantom" / "tables" / "localisation.md").is_file()


def test_a_model_without_what_the_maps_are_made_of_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="patch_tower"):
        _run(tmp_path, Localisation("phantom", "small", "phantom"), patch_tower=False)
    with pytest.raises(ValueError, match="per_kind"):
        Localisation("phantom", "small", "phantom", per_kind=0)
