"""Batches larger than memory: pairs are embedded in parts whose activations are computed again."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from medzeroseg.models import ImageTextModel


def embed_in_parts(
    model: ImageTextModel, images: Tensor, tokens: Tensor, size: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """As the model's forward, keeping the activations of at most `size` pairs.

    Embeddings of all pairs are kept, activations are dropped and computed again in the backward pass, one part at a
    time, as GradCache does (Gao et al., RepL4NLP 2021, arXiv 2101.06983). Loss and gradients are those of the whole
    batch; each part costs a second forward pass.

    Args:
        model: The model.
        images: (B, 3, H, W).
        tokens: (B, L).
        size: Pairs of a part; None, or B and more: all at once, and nothing is computed again.

    Returns:
        Normalised image and text embeddings, each (B, D), and the logit scale.
    """
    if size is None or size >= len(images):
        whole: tuple[Tensor, Tensor, Tensor] = model(images, tokens)
        return whole
    # Not reentrant: the graph stays one, so that DDP sees each gradient once, when all parts have added to it.
    # The random state is restored, so that dropout is the same in both passes.
    parts = [
        checkpoint(model, *part, use_reentrant=False)
        for part in zip(torch.split(images, size), torch.split(tokens, size), strict=True)
    ]
    embedded_images, embedded_texts, _ = zip(*parts, strict=True)
    return torch.cat(embedded_images), torch.cat(embedded_texts), model.logit_scale
