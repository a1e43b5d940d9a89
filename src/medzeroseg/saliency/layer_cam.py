"""Layer-CAM."""

from typing import ClassVar

from torch import Tensor

from medzeroseg.saliency.cam import GradientCAM


class LayerCAM(GradientCAM):
    """Each activation weighted by its own positive gradient.

    Source: Jiang et al., "LayerCAM", IEEE Transactions on Image Processing 2021, equations 6 to 8.
    """

    title: ClassVar[str] = "Layer-CAM"

    def _combine(self, activations: Tensor, gradients: Tensor) -> Tensor:
        return (gradients.relu() * activations).sum(dim=1)
