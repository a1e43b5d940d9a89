"""Grad-CAM++."""

from typing import ClassVar

import torch
from torch import Tensor

from medzeroseg.saliency.cam import GradientCAM, weighted_sum


class GradCAMPlusPlus(GradientCAM):
    """Channels weighted by their positive gradients, each position by how far it alone explains the score.

    Source: Chattopadhay et al., "Grad-CAM++", WACV 2018, equations 7 and 19 (class score exp(S)).

    The position weights are g^2 / (2 g^2 + g^3 sum A), here after division by g^2, which needs no small constant
    in the denominator. The paper's activations come from a ReLU; a sum of activations below zero, which other layers
    can have, counts as zero, or the weights would have a pole.
    """

    title: ClassVar[str] = "Grad-CAM++"

    def _combine(self, activations: Tensor, gradients: Tensor) -> Tensor:
        positive = gradients.relu()
        mass = activations.sum(dim=(2, 3), keepdim=True).relu()
        weights = positive / (2 + positive * mass)
        return weighted_sum(torch.sum(weights, dim=(2, 3)), activations)
