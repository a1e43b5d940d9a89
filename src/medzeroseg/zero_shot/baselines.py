"""Maps that understand no image: what a method has to beat before it is believed."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from medzeroseg.models import ImageTextModel
from medzeroseg.saliency import SaliencyMethod, resize_maps
from medzeroseg.saliency.noise import keyed_noise


class CentreBox(SaliencyMethod):
    """The same nested boxes around the middle for every image and prompt.

    1 in the middle, 0 at the border, equal on the outline of each box: `Threshold(0.5)` cuts out the box of half the
    sides, and the ROC asks whether structures lie in the middle.
    """

    title: ClassVar[str] = "Fixed box"

    def __init__(self, side: int = 64) -> None:
        """Keep the map's side in cells."""
        super().__init__(None)
        self.side = side

    def layer_used(self, model: ImageTextModel) -> str:
        """None."""
        return "-"

    def _maps(self, model: ImageTextModel, images: Tensor, texts: Tensor, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
        axis = 1 - 2 * ((torch.arange(self.side, device=images.device) + 0.5) / self.side - 0.5).abs()
        box = torch.minimum(axis[:, None], axis[None, :])
        shape = (len(images), texts.shape[1])
        return box.expand(*shape, -1, -1), torch.zeros(shape, device=images.device)


class SmoothNoise(SaliencyMethod):
    """Random blobs, drawn for each image and prompt from the image's key."""

    title: ClassVar[str] = "Random map"

    def __init__(self, cells: int = 8, side: int = 64) -> None:
        """Keep the coarse grid on which numbers are drawn, and the map's side."""
        super().__init__(None)
        self.cells, self.side = cells, side

    def layer_used(self, model: ImageTextModel) -> str:
        """None."""
        return "-"

    def _maps(self, model: ImageTextModel, images: Tensor, texts: Tensor, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
        shape = (texts.shape[1], self.cells, self.cells)
        noise = torch.stack([keyed_noise(key, 0, shape) for key in keys])
        maps = resize_maps(noise.to(images.device), (self.side, self.side))
        return maps, torch.zeros(len(images), texts.shape[1], device=images.device)
