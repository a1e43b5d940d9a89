"""One tiny model of each family."""

from pathlib import Path

import pytest
import torch

from medzeroseg.models import ImageTextModel
from tests.helpers.fake_models import write_biomedclip_folder, write_clip_folder, write_pmc_clip_folder

FAMILIES = ("small", "biomedclip", "clip", "pmc_clip")


@pytest.fixture(scope="session")
def model_names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    root: Path = tmp_path_factory.mktemp("models")
    return {
        "small": "small",
        "biomedclip": f"local-dir:{write_biomedclip_folder(root / 'biomedclip')}",
        "clip": f"local-dir:{write_clip_folder(root / 'clip')}",
        "pmc_clip": f"pmc-clip:{write_pmc_clip_folder(root / 'pmc')}",
    }


@pytest.fixture(scope="session", params=FAMILIES)
def model(request: pytest.FixtureRequest, model_names: dict[str, str]) -> ImageTextModel:
    """Evaluation mode; tests must not change it."""
    torch.manual_seed(0)
    return ImageTextModel(model_names[request.param]).eval()


@pytest.fixture(scope="session")
def images(model: ImageTextModel) -> torch.Tensor:
    return torch.randn(2, 3, *model.image_size_px, generator=torch.Generator().manual_seed(1))
