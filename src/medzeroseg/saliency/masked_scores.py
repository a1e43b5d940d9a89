"""Channels as masks: how well the image resembles the text where a channel lets it through.

The channels of all images go through the image tower in chunks of one size, and a masked image is scored once for
all prompts.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from medzeroseg.models import ImageTextModel


def channel_masks(activations: Tensor, size: tuple[int, int]) -> Tensor:
    """Activation maps ``(n, h, w)`` as masks ``(n, H, W)`` in [0, 1]: enlarged, then each stretched to its full range.

    A constant channel becomes an empty mask.
    """
    masks = F.interpolate(activations[:, None], size, mode="bilinear", align_corners=True)[:, 0]
    low = masks.amin(dim=(1, 2), keepdim=True)
    span = masks.amax(dim=(1, 2), keepdim=True) - low
    return (masks - low) / torch.where(span > 0, span, 1)


def masked_scores(
    model: ImageTextModel, images: Tensor, activations: Tensor, texts: Tensor, wanted: Tensor, chunk_size: int
) -> Tensor:
    """Cosine of every masked image with every text.

    Args:
        model: In evaluation mode.
        images: ``(B, 3, H, W)``.
        activations: ``(B, C, h, w)`` float32; every channel is one mask.
        texts: Unit embeddings ``(B, P, D)``.
        wanted: ``(B, C)`` bool: the channels to score.
        chunk_size: Masked images in one forward pass.

    Returns:
        ``(B, P, C)`` float32, 0 at channels that were not wanted.
    """
    scores = torch.zeros(len(images), activations.shape[1], texts.shape[1], device=images.device)
    for chunk in torch.split(wanted.nonzero(), chunk_size):
        image, channel = chunk.unbind(dim=1)
        masks = channel_masks(activations[image, channel], (images.shape[2], images.shape[3]))
        embeddings = model.encode_image(images[image] * masks[:, None].to(images.dtype))
        scores[image, channel] = torch.einsum("nd,npd->np", embeddings, texts[image])
    return scores.transpose(1, 2)


def score_weighted_maps(scores: Tensor, wanted: Tensor, activations: Tensor, relu: bool) -> Tensor:
    """Maps from channel scores: softmax over the wanted channels, weighted sum of the activations.

    Args:
        scores: Logits ``(B, P, C)``.
        wanted: ``(B, P, C)`` bool.
        activations: ``(B, C, h, w)``.
        relu: Keep the positive part only.

    Returns:
        ``(B, P, h, w)``.
    """
    weights = scores.masked_fill(~wanted, -torch.inf).softmax(dim=-1)
    maps = torch.einsum("bpc,bchw->bphw", weights, activations)
    return maps.relu() if relu else maps
