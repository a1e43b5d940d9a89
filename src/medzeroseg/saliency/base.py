"""The one interface of the saliency methods: images and text embeddings in, maps out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from medzeroseg.models import ImageTextModel, SaliencyLayer
from medzeroseg.saliency.errors import SaliencyError
from medzeroseg.saliency.layers import last_safe_layer, named_layer


@dataclass(frozen=True)
class SaliencyMaps:
    """What a saliency method says about a batch.

    Attributes:
        maps: Raw saliency on the layer's own grid, ``(B, P, h, w)`` float32; units and range are the method's. See
            `normalise_maps` and `resize_maps`.
        scores: Cosine similarity of image and text, ``(B, P)`` float32 in [-1, 1].
        layer: Module path of the layer that the maps come from.
    """

    maps: Tensor
    scores: Tensor
    layer: str


class SaliencyMethod(ABC):
    """Where an image resembles a text.

    Methods keep nothing between calls. A map depends on its image, its text and, where noise is drawn, on its
    image's key alone: not on the batch it came in, nor on the place in it.

    Args:
        layer: Module path of the layer to look at, one of `ImageTextModel.saliency_layers`; None for the
            method's own choice.
    """

    #: what tables call the method
    title: ClassVar[str]

    def __init__(self, layer: str | None = None) -> None:
        """Keep the layer's name."""
        self.layer = layer

    def __call__(
        self, model: ImageTextModel, images: Tensor, text_embeddings: Tensor, *, keys: Sequence[str]
    ) -> SaliencyMaps:
        """Make the maps of a batch.

        Args:
            model: In evaluation mode.
            images: ``(B, 3, H, W)``, as the model's `image_transform` makes them.
            text_embeddings: ``(P, D)``, the same prompts for all images, or ``(B, P, D)``; any length, only the
                direction counts.
            keys: One stable name for each image, which seeds its noise.

        Returns:
            Maps, scores and the layer used.

        Raises:
            ZeroGradientError: The layer's patches have no influence on the similarity.
            SaliencyError: A map would hold NaN or infinity.
            ValueError: Shapes that do not fit, a model in training mode, an unknown layer.
        """
        texts = self._checked_texts(model, images, text_embeddings, keys)
        # a caller's inference mode would forbid the gradients that most methods need
        with torch.inference_mode(False), torch.no_grad():
            images, texts = (x.clone() if x.is_inference() else x.detach() for x in (images, texts))
            maps, scores = self._maps(model, images, texts, keys)
        finite = torch.isfinite(maps).flatten(1).all(dim=1)
        if not finite.all():
            bad = ", ".join(key for key, ok in zip(keys, finite.tolist(), strict=True) if not ok)
            raise SaliencyError(
                f"{self.title} at {self.layer_used(model)} gave NaN or infinity for {bad}: check these images and "
                "the model's weights for values that are not finite"
            )
        return SaliencyMaps(maps.float(), scores.float(), self.layer_used(model))

    def layer_used(self, model: ImageTextModel) -> str:
        """Module path of the layer that the maps of this model come from."""
        return self._layer(model).name

    def check_model(self, model: ImageTextModel) -> None:
        """Refuse a model that the method cannot read, before there is an image.

        Raises:
            ValueError: The model lacks what the method looks at.
        """
        self.layer_used(model)

    @abstractmethod
    def _maps(self, model: ImageTextModel, images: Tensor, texts: Tensor, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Maps ``(B, P, h, w)`` and scores ``(B, P)`` of unit texts ``(B, P, D)``; called without gradients."""

    def _default_layer(self, model: ImageTextModel) -> SaliencyLayer:
        """The layer where none was named: the last safe one."""
        return last_safe_layer(model)

    def _layer(self, model: ImageTextModel) -> SaliencyLayer:
        return self._default_layer(model) if self.layer is None else named_layer(model, self.layer)

    @staticmethod
    def _checked_texts(model: ImageTextModel, images: Tensor, texts: Tensor, keys: Sequence[str]) -> Tensor:
        if model.training:
            raise ValueError("model must be in evaluation mode: call model.eval() first")
        if images.ndim != 4 or len(images) == 0:
            raise ValueError(f"images must be (B, 3, H, W) with B at least 1, not {tuple(images.shape)}")
        if texts.ndim == 2:
            texts = texts.expand(len(images), *texts.shape)
        if texts.ndim != 3 or texts.shape[0] != len(images) or texts.shape[2] != model.embedding_dim:
            raise ValueError(
                f"text_embeddings must be (P, {model.embedding_dim}) or ({len(images)}, P, {model.embedding_dim}), "
                f"not {tuple(texts.shape)}"
            )
        if texts.shape[1] == 0:
            raise ValueError("text_embeddings holds no prompt: give at least one text")
        if len(keys) != len(images):
            raise ValueError(f"keys must name each of the {len(images)} images once, not {len(keys)}")
        return F.normalize(texts.float(), dim=-1)


def similarity(embeddings: Tensor, texts: Tensor) -> Tensor:
    """Cosine of unit embeddings ``(B, D)`` and unit texts ``(B, P, D)``: ``(B, P)``."""
    return torch.einsum("bd,bpd->bp", embeddings, texts)
