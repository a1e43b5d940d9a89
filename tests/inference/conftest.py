"""What the tests of `segment` share."""

from pathlib import Path

import pytest
import torch

from medzeroseg.inference.api import prepare
from medzeroseg.inference.request import SegmentationRequest
from medzeroseg.inference.running import Run, Saving
from tests.helpers.fake_inference import write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "best.ckpt")


@pytest.fixture(scope="session")
def quick_method(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patch-text similarity and Otsu alone: no segmenter."""
    path = tmp_path_factory.mktemp("method") / "quick.yaml"
    path.write_text(
        "compare_with: [heart, spine]\nsaliency: {class_path: medzeroseg.saliency.PatchTextSimilarity}\n", "utf-8"
    )
    return path


@pytest.fixture
def prepared(checkpoint: Path, quick_method: Path):
    def make(*text: str, saving: Saving | None = None, **options: object) -> Run:
        request = SegmentationRequest(text, **options)
        return prepare(request, checkpoint=checkpoint, method=quick_method, saving=saving, device="cpu")

    return make
