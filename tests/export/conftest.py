"""What the tests of `export` share."""

from pathlib import Path

import pytest
import torch

from medzeroseg.models import ImageTextModel
from medzeroseg.models.configured import build_configured
from tests.helpers.fake_models import write_biomedclip_folder


def arguments_of(**init_args: object) -> dict[str, object]:
    return {"class_path": "medzeroseg.models.ImageTextModel", "init_args": init_args}


def build(**init_args: object) -> tuple[ImageTextModel, dict[str, object]]:
    """A model with random weights, DPFEM as if trained, and what it was built from."""
    arguments = arguments_of(**init_args)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_configured(arguments, "test")
        for part in (model.dpfem, model.patch_dpfem):
            if part is not None:
                torch.nn.init.normal_(part.scale)
    return model.eval(), arguments


PARTS = {"dpfem": "medzeroseg.models.DPFEM", "patch_tower": "medzeroseg.models.PatchTower"}


@pytest.fixture(scope="session")
def biomedclip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_biomedclip_folder(tmp_path_factory.mktemp("released") / "biomedclip")
