"""What the zero-shot task says of cut prompts, and whose time its stages count as."""

import logging
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from torch import Tensor

from medzeroseg.callbacks import segmentation
from medzeroseg.models import DPFEM, ImageTextModel
from medzeroseg.postprocessing import DenseCRF, Otsu, PostProcessing
from medzeroseg.saliency import PatchTextSimilarity
from medzeroseg.tasks import ZeroShotSegmentationTask
from medzeroseg.zero_shot import MethodTable, ZeroShotMethod
from tests.helpers.fake_segmentation import ArraysDataModule, write_cases


def run(root: Path, task: ZeroShotSegmentationTask) -> None:
    data = ArraysDataModule(write_cases(root / "data", {"train": ["p1_a"], "val": ["p2_a"], "test": ["p3_a"]}))
    trainer = Trainer(
        default_root_dir=root, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.test(task, datamodule=data, verbose=False)


def test_guiding_features_are_time_of_the_rows_that_they_guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    model = ImageTextModel("small", dpfem=DPFEM)
    original = model.dense_features

    def slow(images: Tensor) -> Any:
        clock[0] += 10
        return original(images)

    monkeypatch.setattr(segmentation, "_now", lambda: clock[0])
    monkeypatch.setattr(model, "dense_features", slow)
    guided = PostProcessing([DenseCRF(feature_weight=1.0), Otsu()])
    rows = {
        "plain": ZeroShotMethod(PatchTextSimilarity()),
        "guided": ZeroShotMethod(PatchTextSimilarity(), guided, guided=True),
        "too": ZeroShotMethod(PatchTextSimilarity(), guided, guided=True),
    }
    task = ZeroShotSegmentationTask(model, MethodTable(rows))
    run(tmp_path, task)
    assert clock[0] > 0
    assert task.evaluator.seconds == {"plain": 0, "guided": clock[0], "too": clock[0]}


def test_a_prompt_that_is_cut_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(
        f"templates: {{any: ['{{}}']}}\nstructures: {{ball: ['{'ball ' * 500}end']}}\n", encoding="utf-8"
    )
    methods = MethodTable({"patches": ZeroShotMethod(PatchTextSimilarity())})
    task = ZeroShotSegmentationTask(ImageTextModel("small"), methods, prompts=str(prompts))
    with caplog.at_level(logging.WARNING, logger="medzeroseg"):
        run(tmp_path, task)
    [message] = [record.getMessage() for record in caplog.records if record.name.startswith("medzeroseg")]
    assert "'ball': 1 of its 2 sentences" in message
    assert "end'" in message
