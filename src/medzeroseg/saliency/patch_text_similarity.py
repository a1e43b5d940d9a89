"""Dense patch-text similarity."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from medzeroseg.models import ImageTextModel
from medzeroseg.saliency.base import SaliencyMethod, similarity


class PatchTextSimilarity(SaliencyMethod):
    """Cosine of every patch's embedding with the text, from one forward pass for all prompts.

    The patch embeddings are the model's own (`ImageTextModel.encode_image_and_patches`): its norm and projection
    applied to a single patch, as in Zhou et al., "MaskCLIP", ECCV 2022, refined by DPFEM where the model has one;
    the model's `patch_path` says how they leave the last attention. Maps lie in [-1, 1].
    """

    title: ClassVar[str] = "Patch-text similarity"

    def __init__(self) -> None:
        """The layer is always the last one."""
        super().__init__(None)

    def layer_used(self, model: ImageTextModel) -> str:
        """The projected patch grid is no module of its own."""
        return "patch embeddings"

    def _maps(self, model: ImageTextModel, images: Tensor, texts: Tensor, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
        embeddings, patches = model.encode_image_and_patches(images)
        maps = torch.einsum("bdhw,bpd->bphw", F.normalize(patches.float(), dim=1), texts)
        return maps, similarity(embeddings, texts)


class DPFEMSimilarity(PatchTextSimilarity):
    """Patch-text similarity of a model with DPFEM, whose refined patch embeddings it compares.

    The same computation under its own name: a table that says DPFEM must not show a model without one.
    """

    title: ClassVar[str] = "DPFEM-refined similarity"

    def check_model(self, model: ImageTextModel) -> None:
        """Refuse a model without DPFEM."""
        if model.dpfem is None:
            raise ValueError("model has no DPFEM: build it with dpfem, or use PatchTextSimilarity")

    def _maps(self, model: ImageTextModel, images: Tensor, texts: Tensor, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
        self.check_model(model)
        return super()._maps(model, images, texts, keys)
