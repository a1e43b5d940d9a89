"""Evidence for a text at every place, of models that learned where named structures are."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

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
        looks: How many times along each axis the picture is looked at, shifted by parts of a patch: the grid is as many
            times finer, at the cost of its square in passes. The shifts must be whole pixels.

    Raises:
        ValueError: `looks` is below 1.
    """

    title: ClassVar[str] = "Patch-text evidence"

    def __init__(self, scale: float = 3.0, sharpness: float = 6.0, looks: int = 1) -> None:
        """The layer is always the last one."""
        super().__init__(None)
        if looks < 1:
            raise ValueError(f"looks must be at least 1, got {looks}")
        self.scale, self.sharpness, self.looks = scale, sharpness, looks

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
        patches = encode_between_patches(model.encode_patches, images, _patch_px(model), self.looks).float()
        maps = torch.einsum("bdhw,bpd->bphw", patches, texts)
        return self.scale * maps, (self.scale * somewhere(maps.flatten(2), self.sharpness)).sigmoid()


def encode_between_patches(encode: Callable[[Tensor], Tensor], images: Tensor, patch_px: int, looks: int) -> Tensor:
    """Features on a finer grid: the pictures are shifted by parts of a patch, and the grids that they give interleaved.

    Args:
        encode: Images ``(B, 3, H, W)`` -> features ``(B, D, h, w)``.
        images: The pictures; their edges are repeated outwards.
        patch_px: Side of a patch, H / h.
        looks: Shifts along each axis; 1 for none.

    Returns:
        ``(B, D, looks h, looks w)``; each value lies where that of a patch of so fine a grid would.

    Raises:
        ValueError: A shift would not be a whole number of pixels.
    """
    shifts = [(number - (looks - 1) / 2) * patch_px / looks for number in range(looks)]
    if any(shift != round(shift) for shift in shifts):
        raise ValueError(f"looks: {looks} shifts of patches of {patch_px} pixels are no whole pixels")
    margin, (height, width) = round(max(shifts)), images.shape[2:]
    padded = F.pad(images, (margin,) * 4, mode="replicate")
    starts = [margin + round(shift) for shift in shifts]
    seen = [encode(padded[:, :, top : top + height, left : left + width]) for top in starts for left in starts]
    # (looks looks, B, D, h, w) -> rows and columns of a patch beside those of the grid
    grids = torch.unflatten(torch.stack(seen), 0, (looks, looks))
    return grids.permute(2, 3, 4, 0, 5, 1).flatten(4, 5).flatten(2, 3)


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


def _patch_px(model: ImageTextModel) -> int:
    assert model.patch_tower is not None  # `check_model` has refused such a model
    return model.patch_tower.trunk.stride_px
