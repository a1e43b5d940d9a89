"""Tiny models of the three families, and a batch to run through them."""

import pytest
import torch
from torch.nn import functional as F

from medzeroseg.models import ImageTextModel
from tests.helpers.fake_models import write_biomedclip_folder, write_clip_folder, write_pmc_clip_folder

KEYS = ["a", "b", "c", "d"]


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """By family; in evaluation mode, random weights."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    names = {
        "small": "small",
        "timm_vit": f"local-dir:{write_biomedclip_folder(root / 'biomedclip')}",
        "open_clip_vit": f"local-dir:{write_clip_folder(root / 'clip')}",
        "resnet": f"pmc-clip:{write_pmc_clip_folder(root / 'pmc')}",
    }
    return {family: ImageTextModel(name).eval() for family, name in names.items()}


@pytest.fixture(params=["small", "timm_vit", "open_clip_vit", "resnet"])
def model(request, models):
    return models[request.param]


@pytest.fixture
def vit(models):
    """A transformer that pools the class token."""
    return models["timm_vit"]


@pytest.fixture
def make_batch():
    """Images and unit text embeddings for a model."""

    def make(model, images=4, prompts=3, seed=0):
        generator = torch.Generator().manual_seed(seed)
        pictures = torch.randn(images, 3, *model.image_size_px, generator=generator)
        texts = F.normalize(torch.randn(prompts, model.embedding_dim, generator=generator), dim=1)
        return pictures, texts

    return make
