"""gScoreCAM."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from medzeroseg.models import ImageTextModel
from medzeroseg.saliency.base import SaliencyMethod
from medzeroseg.saliency.gradients import open_at
from medzeroseg.saliency.masked_scores import masked_scores, score_weighted_maps


class GScoreCAM(SaliencyMethod):
    """Score-CAM over the channels that the text's gradient points at.

    Args:
        layer: Module path of the layer; None for the last one whose patches have a gradient. Where there is none
            the choice of channels would be arbitrary: that is an error.
        channels: How many channels each prompt may choose; the paper's 300. A layer with fewer gives all it has.
        relu: Keep positive evidence only, as published.
        chunk_size: Masked images in one forward pass; bounds the memory, does not change the map.

    Source: Chen et al., "gScoreCAM: What objects is CLIP looking at?", ACCV 2022, section 3: each prompt takes the
    channels with the largest mean absolute gradient, uses each of these activation maps as a mask on the image, and
    weighs them by a softmax of the logits. The softmax runs over the chosen channels. (The authors' code
    ranks by the signed mean and gives channels that were not chosen the logit 0; with CLIP's
    logits of 20 and more this weighs nothing, with logits near or below 0 it would outweigh the chosen ones.)

    A channel that several prompts choose is scored once for all of them.
    """

    title: ClassVar[str] = "gScoreCAM"

    def __init__(self, layer: str | None = None, channels: int = 300, relu: bool = True, chunk_size: int = 16) -> None:
        """Keep the options."""
        super().__init__(layer)
        for name, value in (("channels", channels), ("chunk_size", chunk_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        self.channels = channels
        self.relu = relu
        self.chunk_size = chunk_size

    def _maps(self, model: ImageTextModel, images: Tensor, texts: Tensor, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
        opened = open_at(model, self._layer(model), images, texts, keys)
        activations = opened.activations.float()
        importance = torch.stack([gradient.float().abs().mean(dim=(2, 3)) for gradient in opened.gradients()], dim=1)
        chosen = importance.topk(min(self.channels, importance.shape[-1]), dim=-1).indices
        wanted = torch.zeros_like(importance, dtype=torch.bool).scatter_(-1, chosen, True)
        channel_scores = masked_scores(model, images, activations, texts, wanted.any(dim=1), self.chunk_size)
        logits = model.logit_scale.float() * channel_scores
        return score_weighted_maps(logits, wanted, activations, self.relu), opened.scores
