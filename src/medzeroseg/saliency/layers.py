"""Which layer a method looks at, and how its output becomes a grid."""

import torch
from torch import Tensor

from medzeroseg.models import ImageTextModel, SaliencyLayer


def last_safe_layer(model: ImageTextModel) -> SaliencyLayer:
    """The deepest layer whose patches the image embedding still depends on."""
    return [layer for layer in model.saliency_layers if layer.safe][-1]


def block_at(model: ImageTextModel, depth: float) -> SaliencyLayer:
    """The whole block at a relative depth, or the last safe one before it.

    Args:
        model: The model.
        depth: 0 is the first block, 1 would be behind the last; 0.75 of twelve blocks is the tenth.
    """
    layers = model.saliency_layers
    names = {layer.name for layer in layers}
    blocks = [layer for layer in layers if layer.name.rpartition(".")[0] not in names]
    wanted = min(int(depth * len(blocks)), len(blocks) - 1)
    return [block for block in blocks[: wanted + 1] if block.safe][-1]


def named_layer(model: ImageTextModel, name: str) -> SaliencyLayer:
    """The layer of this name.

    Raises:
        ValueError: The model has no such layer; the message lists those it has.
    """
    for layer in model.saliency_layers:
        if layer.name == name:
            return layer
    listed = ", ".join(layer.name for layer in model.saliency_layers)
    raise ValueError(f"layer {name!r} is not a saliency layer of {model.name}; it has: {listed}")


def to_grid(values: Tensor, layer: SaliencyLayer, grid: tuple[int, int]) -> Tensor:
    """The layer's output or its gradient as a grid.

    Args:
        values: ``(B, prefix + h * w, C)`` of a token layer, or ``(B, C, h, w)`` of a convolutional one.
        layer: Where the values come from.
        grid: Rows and columns of the patches; convolutional layers bring their own.

    Returns:
        ``(B, C, h, w)``; class token and registers are dropped.
    """
    if layer.kind == "grid":
        return values
    return torch.unflatten(values[:, layer.prefix_tokens :].transpose(1, 2), 2, grid)
