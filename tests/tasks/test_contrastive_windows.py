"""Windows beside pairs, then alone: what moves when, through the phantom and the trainer."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch

from data_modules import PhantomROCODataModule
from data_modules.windows import Windows
from medzeroseg.errors import ConfigurationError
from medzeroseg.losses import CEHNCLoss, PresenceLoss
from medzeroseg.models import ImageTextModel, PatchTower
from medzeroseg.tasks import ContrastiveTask


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("phantom") / "roco"


def _data(root: Path, windows: Windows | None) -> PhantomROCODataModule:
    return PhantomROCODataModule(
        root,
        train=8,
        validation=4,
        test=4,
        batch_size=4,
        num_workers=0,
        phantom_workers=0,
        windows=windows,
    )


def _task(**options: Any) -> ContrastiveTask:
    torch.manual_seed(0)
    model = ImageTextModel("small", patch_tower=PatchTower)
    return ContrastiveTask(
        model, CEHNCLoss(), optimizer=lambda groups: torch.optim.AdamW(groups, lr=1e-3, weight_decay=0.1), **options
    )


def _trainer(**options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    return pl.Trainer(**quiet, enable_model_summary=False, limit_val_batches=0, num_sanity_val_steps=0, **options)


class _Snapshots(pl.Callback):
    """The weights after each epoch."""

    def __init__(self) -> None:
        self.taken: list[dict[str, torch.Tensor]] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.taken.append({name: value.detach().clone() for name, value in pl_module.state_dict().items()})


def _moved(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor], prefix: str) -> set[bool]:
    return {not torch.equal(before[name], after[name]) for name in before if name.startswith(prefix)}


def test_pairs_train_with_windows_then_windows_train_the_patch_tower_alone(root: Path) -> None:
    task, snapshots = _task(window_loss=PresenceLoss(), window_share=0.5), _Snapshots()
    start = {name: value.clone() for name, value in task.state_dict().items()}
    _trainer(max_epochs=2, callbacks=[snapshots]).fit(task, datamodule=_data(root, Windows(size_px=32)))
    first, second = snapshots.taken
    assert True in _moved(start, first, "model.clip.visual.")
    assert True in _moved(start, first, "model.clip.text.")
    assert True in _moved(start, first, "model.patch_tower.")
    # not even weight decay moves what takes no part
    assert _moved(first, second, "model.clip.") == {False}
    assert True in _moved(first, second, "model.patch_tower.")


def test_windows_and_their_loss_belong_together(root: Path) -> None:
    for task, data in ((_task(), _data(root, Windows())), (_task(window_loss=PresenceLoss()), _data(root, None))):
        with pytest.raises(ConfigurationError, match="belong together"):
            _trainer(max_epochs=1).fit(task, datamodule=data)


def test_a_share_of_windows_needs_a_loss() -> None:
    with pytest.raises(ValueError, match="window_share"):
        _task(window_share=0.5)
    with pytest.raises(ValueError, match="window_share"):
        _task(window_loss=PresenceLoss(), window_share=1.0)


def test_the_phantom_names_parts_with_what_is_drawn_over_them(root: Path) -> None:
    data = _data(root, Windows())
    data.prepare_data()
    data.setup("fit")
    kinds = {}
    for record in data.datasets["train"].records:
        assert record.structures is not None
        kinds[record.structures.kind] = record.structures.parts
    assert kinds.keys() <= {"cardiac MRI", "abdominal CT", "chest X-ray"}
    assert len(kinds) > 1
    if "chest X-ray" in kinds:
        assert set(kinds["chest X-ray"]["lungs"]) == {1, 2, 4, 5, 6, 7}
        assert set(kinds["chest X-ray"]["infection"]) == {4, 5}
    if "abdominal CT" in kinds:
        assert set(kinds["abdominal CT"]["liver"]) == {6, 14}
    held_out = data.datasets["val"]  # named for scoring maps, no windows are taken
    assert all("windows" not in held_out[n] for n in range(len(held_out)))
