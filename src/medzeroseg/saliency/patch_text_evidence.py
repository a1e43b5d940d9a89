"""Evidence for a text at every place, of models that learned where named structures are."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from medzeroseg.losses.presence import somewhere
from medzeroseg.models import ImageTextModel
from medzeroseg.saliency.base import SaliencyMethod


class PatchTextEvidence(SaliencyMethod):
    """Logits of every patch for the text, from one forward pass for all prompts.

    For models whose patch features `losses.PresenceLoss` trained: their length says how much evidence a place holds,
    so they are not brought to unit length as in `PatchTextSimilarity`. The sigmoid of a map is the probability that the
    place shows what the text names. Scores are the probability that some place does, in (0, 1), not cosines.

    Args:
        scale: That of the loss.
        sharpness: That of the loss.
    """

    title: ClassVar[str] = "Patch-text evidence"

    def __init__(self, scale: float = 3.0, sharpness: float = 6.0) -> None:
        """The layer is always the last one."""
        super().__init__(None)
        self.scale, self.sharpness = scale, sharpness

    def layer_used(self, model: ImageTextModel) -> str:
        """The projected patch grid is no module of its own."""
        return "patch embeddings"

    def check_model(self, model: ImageTextModel) -> None:
        """Refuse a model without a tower for patch features.

        Raises:
            ValueError: The model has no `patch_tower`.
        """
        if model.patch_tower is None:
            raise ValueError("model has no patch_tower, which a window loss trains: use PatchTextSimilarity")

    def _maps(self, model: ImageTextModel, images: Tensor, texts: Tensor, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
        self.check_model(model)
        patches = model.encode_patches(images).float()
        maps = torch.einsum("bdhw,bpd->bphw", patches, texts)
        return self.scale * maps, (self.scale * somewhere(maps.flatten(2), self.sharpness)).sigmoid()


class DPFEMEvidence(PatchTextEvidence):
    """Patch-text evidence of a model with DPFEM, whose refined patch features it asks.

    The same computation under its own name: a table that says DPFEM must not show a model without one.
    """

    title: ClassVar[str] = "Patch-text evidence + DPFEM"

    def check_model(self, model: ImageTextModel) -> None:
        """Refuse a model without DPFEM on its patch tower.

        Raises:
            ValueError: The model has no `patch_tower`, or no DPFEM.
        """
        super().check_model(model)
        if model.patch_dpfem is None:
            raise ValueError("model has no DPFEM: build it with dpfem, or use PatchTextEvidence")
