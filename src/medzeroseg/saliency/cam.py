"""What the gradient-weighted class activation maps share."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from medzeroseg.models import ImageTextModel
from medzeroseg.saliency.base import SaliencyMethod
from medzeroseg.saliency.gradients import open_at


class GradientCAM(SaliencyMethod):
    """Class activation maps from one forward pass and, for each prompt, one backward pass down to the layer.

    The class score is the cosine times the model's logit scale, as CLIP's logits are.

    Args:
        layer: Module path of the layer; None for the last one whose patches have a gradient.
        relu: Keep positive evidence only, as published. Without it the map also ranks what speaks against the text.
    """

    def __init__(self, layer: str | None = None, relu: bool = True) -> None:
        """Keep the options."""
        super().__init__(layer)
        self.relu = relu

    def _maps(self, model: ImageTextModel, images: Tensor, texts: Tensor, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
        opened = open_at(model, self._layer(model), images, texts, keys)
        activations = opened.activations.float()
        scale = model.logit_scale.float()
        maps = [self._combine(activations, scale * gradient.float()) for gradient in opened.gradients()]
        stacked = torch.stack(maps, dim=1)
        return stacked.relu() if self.relu else stacked, opened.scores

    @abstractmethod
    def _combine(self, activations: Tensor, gradients: Tensor) -> Tensor:
        """Activations and gradients of one class score, each ``(B, C, h, w)`` -> map before ReLU ``(B, h, w)``."""


def weighted_sum(weights: Tensor, activations: Tensor) -> Tensor:
    """Sum over the channels of weights ``(B, C)`` times activations ``(B, C, h, w)``: ``(B, h, w)``."""
    return torch.einsum("bc,bchw->bhw", weights, activations)
