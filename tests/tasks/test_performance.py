"""Compiled and laid out otherwise: the same weights, the same checkpoints."""

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from data_modules import ACDCDataModule
from medzeroseg.checkpoints import read_checkpoint
from medzeroseg.losses import CEHNCLoss
from medzeroseg.models import ImageTextModel
from medzeroseg.models.segmentation_networks import ResUNet
from medzeroseg.tasks import BaseTask, ContrastiveTask, Performance, SegmentationTask
from tests.helpers.fake_data import write_acdc_h5
from tests.helpers.fake_models import write_pmc_clip_folder
from tests.helpers.fake_pairs import FakeDataModule

COMPILED = Performance(compile=True, compile_backend="eager")  # no compiler: what is tested is what is compiled


def contrastive(**options: Any) -> ContrastiveTask:
    pl.seed_everything(0)
    return ContrastiveTask(ImageTextModel("small"), CEHNCLoss(), **options)


def segmentation(**options: Any) -> SegmentationTask:
    pl.seed_everything(0)
    return SegmentationTask(ResUNet((4, 8), residual_units=1), **options)


def pairs(_: Path) -> FakeDataModule:
    return FakeDataModule({"train": 8, "val": 4, "test": 4})


def hearts(folder: Path) -> ACDCDataModule:
    root = folder / "acdc"
    if not root.exists():
        write_acdc_h5(root, train_patients=5, test_patients=1)
    return ACDCDataModule(root, num_workers=0, batch_size=8, image_size_px=32, cache_dir=folder / "cache")


def fit(task: BaseTask, data: pl.LightningDataModule, folder: Path) -> Path:
    """Two steps; the checkpoint after them."""
    pl.seed_everything(0)  # some tasks make their network in `fit`
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=2,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, datamodule=data)
    trainer.save_checkpoint(folder / "after.ckpt")
    return folder / "after.ckpt"


@pytest.mark.parametrize(("make", "data"), [(contrastive, pairs), (segmentation, hearts)])
def test_compiled_trains_to_the_same_weights_under_the_same_names(make: Any, data: Any, tmp_path: Path) -> None:
    plain, compiled = make(), make(performance=COMPILED)
    fit(plain, data(tmp_path), tmp_path)
    counters.clear()
    path = fit(compiled, data(tmp_path), tmp_path)
    assert counters["stats"]["unique_graphs"] > 0  # it was compiled
    written = read_checkpoint(path)["state_dict"]
    assert written.keys() == plain.state_dict().keys()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(written[name], value, rtol=1e-5, atol=1e-6, msg=name)
    plain.load_state_dict(written)
    # hooks of saliency methods would not be seen by compiled parts
    assert all(module._compiled_call_impl is None for module in compiled.modules())


def test_parts_are_compiled_while_the_training_lasts(tmp_path: Path) -> None:
    task, seen = contrastive(performance=COMPILED), []
    original = task.training_step

    def watched(*arguments: Any) -> Any:
        seen.append([part.module._compiled_call_impl is not None for part in task.parts_to_compile()])
        return original(*arguments)

    task.training_step = watched  # type: ignore[method-assign]
    fit(task, pairs(tmp_path), tmp_path)
    assert all(all(of_step) for of_step in seen)
    assert len(seen[0]) > 2


def test_channels_last_changes_the_layout_alone(tmp_path: Path) -> None:
    name = f"pmc-clip:{write_pmc_clip_folder(tmp_path / 'pmc')}"
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    plain, laid_out = (
        ContrastiveTask(ImageTextModel(name), CEHNCLoss(), performance=Performance(channels_last=last)).eval()
        for last in (False, True)
    )
    for task in (plain, laid_out):
        task.configure_model()
    convolution = laid_out.model.clip.visual.layer1[0].conv2
    assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert not convolution.weight.is_contiguous()
    assert plain.model.clip.visual.layer1[0].conv2.weight.is_contiguous()
    assert laid_out.state_dict().keys() == plain.state_dict().keys()
    expected = plain.model.encode_image(images)
    torch.testing.assert_close(laid_out.model.encode_image(images), expected, rtol=1e-4, atol=1e-5)
    torch.save(laid_out.state_dict(), tmp_path / "weights.pt")
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.zero_()
    plain.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(plain.model.encode_image(images), expected)


def test_channels_last_is_there_before_the_training(tmp_path: Path) -> None:
    task = contrastive(performance=Performance(channels_last=True))
    layouts: list[bool] = []
    task.on_train_start = lambda: layouts.extend(  # type: ignore[method-assign]
        m.weight.is_contiguous(memory_format=torch.channels_last) for m in task.modules() if isinstance(m, nn.Conv2d)
    )
    fit(task, pairs(tmp_path), tmp_path)
    assert layouts
    assert all(layouts)


def test_a_backend_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"compile_backend must be one of .*inductor.*, got 'indctor'"):
        Performance(compile=True, compile_backend="indctor")
