"""A test that does not see every case leaves no record: it would pass for one of the whole split."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

from data_modules.loading import CaseSampler
from medzeroseg.callbacks import SegmentationTable
from medzeroseg.errors import ConfigurationError
from medzeroseg.models import ImageTextModel
from medzeroseg.models.segmentation_networks import ResUNet
from medzeroseg.saliency import PatchTextSimilarity
from medzeroseg.tables.segmentation_records import RECORD_NAME
from medzeroseg.tasks import SegmentationTask, ZeroShotSegmentationTask
from medzeroseg.zero_shot import MethodTable, ZeroShotMethod
from tests.helpers.fake_segmentation import ArraysDataModule, write_cases


def network() -> LightningModule:
    return SegmentationTask(ResUNet((8, 16), residual_units=1))


def zero_shot() -> LightningModule:
    methods = MethodTable({"patches": ZeroShotMethod(PatchTextSimilarity())})
    return ZeroShotSegmentationTask(ImageTextModel("small"), methods)


class FirstCasesDataModule(ArraysDataModule):
    """Lists three test cases, and brings the slices of two."""

    def test_dataloader(self) -> DataLoader[Any]:
        loader = super().test_dataloader()
        assert isinstance(loader.sampler, CaseSampler)
        loader.sampler.rows = loader.sampler.rows[:2]
        return loader


def run(root: Path, task: LightningModule, kind: type[ArraysDataModule] = ArraysDataModule, **options: Any) -> bool:
    """Test on three pictures of one slice, one a batch; whether there is a record."""
    names = {"train": ["p1_a"], "val": ["p2_a"], "test": ["p3_a", "p4_a", "p5_a"]}
    data = kind(write_cases(root / "data", names, slices=1), eval_batch_size=1)
    folder = root / "runs" / "seed_0"
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    table = SegmentationTable("toy", "Toy", "toy")
    trainer = Trainer(default_root_dir=folder, accelerator="cpu", callbacks=[table], **(quiet | options))
    try:
        trainer.test(task, datamodule=data, verbose=False)
    finally:
        found = (folder / RECORD_NAME).exists()
        assert found == (trainer.state.status == "finished")
    return found


@pytest.mark.parametrize("make", [network, zero_shot])
def test_a_test_on_some_batches_is_refused_with_what_to_do(tmp_path: Path, make: Any) -> None:
    some: list[dict[str, Any]] = [{"limit_test_batches": 1}, {"limit_test_batches": 0.7}, {"fast_dev_run": True}]
    for n, options in enumerate(some):
        with pytest.raises(ConfigurationError, match=r"limit_test_batches is (1|0\.7) .*max_test_cases"):
            run(tmp_path / str(n), make(), **options)
    assert run(tmp_path / "all", make())
    assert run(tmp_path / "said", make(), limit_test_batches=1.0)


@pytest.mark.parametrize("make", [network, zero_shot])
def test_a_case_of_which_no_slice_came_is_an_error(tmp_path: Path, make: Any) -> None:
    with pytest.raises(RuntimeError, match=r"1 case\(s\) of the test split were not scored, among them p5_a"):
        run(tmp_path, make(), FirstCasesDataModule)
