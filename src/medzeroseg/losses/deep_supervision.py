"""A loss over the outputs of a network at several depths."""

from collections.abc import Callable

import torch
from torch import Tensor


def deep_supervision(loss: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, classes: Tensor) -> Tensor:
    """Weighted mean of a loss over a network's outputs, each coarser one counting half of the one before.

    Args:
        loss: Of logits (B, K, H, W) and classes (B, H, W).
        outputs: Logits (B, K, H, W), or (B, S, K, H, W) of S depths, the finest first.
        classes: (B, H, W) int64.

    Returns:
        A scalar; of one output, its loss.

    Source: nnU-Net (Isensee et al., Nature Methods 2021).
    """
    heads = outputs.unbind(dim=1) if outputs.ndim == 5 else (outputs,)
    weights = [0.5**n for n in range(len(heads))]
    losses = [weight * loss(head, classes) for weight, head in zip(weights, heads, strict=True)]
    return torch.stack(losses).sum() / sum(weights)
