"""Score-CAM."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from medzeroseg.models import ImageTextModel
from medzeroseg.saliency.base import SaliencyMethod, similarity
from medzeroseg.saliency.gradients import hooked
from medzeroseg.saliency.layers import to_grid
from medzeroseg.saliency.masked_scores import masked_scores, score_weighted_maps


class ScoreCAM(SaliencyMethod):
    """Channels weighted by the score of the image seen through them; no gradient.

    Every channel of the layer costs one forward pass per image: 768 for ViT-B.

    Args:
        layer: Module path of the layer; None for the last safe one.
        relu: Keep positive evidence only, as published.
        chunk_size: Masked images in one forward pass; bounds the memory, does not change the map.

    Source: Wang et al., "Score-CAM", CVPR Workshops 2020, algorithm 1. The score is the cosine times the model's logit
    scale; the baseline that the paper subtracts is the same for all channels and cancels in its softmax.
    """

    title: ClassVar[str] = "Score-CAM"

    def __init__(self, layer: str | None = None, relu: bool = True, chunk_size: int = 16) -> None:
        """Keep the options."""
        super().__init__(layer)
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, not {chunk_size}")
        self.relu = relu
        self.chunk_size = chunk_size

    def _maps(self, model: ImageTextModel, images: Tensor, texts: Tensor, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
        layer = self._layer(model)
        outputs: list[Tensor] = []
        with hooked(model.get_submodule(layer.name), lambda module, inputs, output: outputs.append(output)):
            scores = similarity(model.encode_image(images), texts)
        activations = to_grid(outputs[0], layer, model.patch_grid).float()
        wanted = torch.ones(activations.shape[:2], dtype=torch.bool, device=images.device)
        channel_scores = masked_scores(model, images, activations, texts, wanted, self.chunk_size)
        logits = model.logit_scale.float() * channel_scores
        wanted_by_prompt = wanted[:, None].expand_as(logits)
        return score_weighted_maps(logits, wanted_by_prompt, activations, self.relu), scores
