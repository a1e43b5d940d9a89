"""Grad-CAM."""

from typing import ClassVar

from torch import Tensor

from medzeroseg.saliency.cam import GradientCAM, weighted_sum


class GradCAM(GradientCAM):
    """Channels weighted by their mean gradient.

    Source: Selvaraju et al., "Grad-CAM", ICCV 2017, equations 1 and 2.
    """

    title: ClassVar[str] = "Grad-CAM"

    def _combine(self, activations: Tensor, gradients: Tensor) -> Tensor:
        return weighted_sum(gradients.mean(dim=(2, 3)), activations)
