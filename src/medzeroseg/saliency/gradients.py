"""A layer's activations and the gradients of the similarity there, from one forward pass.

Nothing before the layer needs a gradient: the pass runs without one until the layer has spoken.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medzeroseg.models import ImageTextModel, SaliencyLayer
from medzeroseg.saliency.base import similarity
from medzeroseg.saliency.errors import SaliencyError, ZeroGradientError
from medzeroseg.saliency.layers import to_grid


@dataclass(frozen=True)
class LayerPass:
    """One forward pass that was opened at a layer.

    Attributes:
        activations: The layer's output as a grid, ``(B, C, h, w)``, without gradient.
        scores: Cosine of images and texts, ``(B, P)``, without gradient.
    """

    activations: Tensor
    scores: Tensor
    _leaf: Tensor
    _live_scores: Tensor
    _layer: SaliencyLayer
    _grid: tuple[int, int]
    _keys: Sequence[str]

    def gradients(self) -> Iterator[Tensor]:
        """Gradient of each prompt's cosine at the layer, ``(B, C, h, w)``, prompt after prompt.

        Raises:
            ZeroGradientError: It is exactly zero at all patches of an image.
        """
        count = self.scores.shape[1]
        for i in range(count):
            # images do not mix, so one backward pass serves all of the batch; it ends at the layer
            (gradient,) = torch.autograd.grad(
                self._live_scores,
                self._leaf,
                _one_prompt(self.scores, i),
                retain_graph=i + 1 < count,
                allow_unused=True,
            )
            gradient = torch.zeros_like(self._leaf) if gradient is None else gradient
            on_grid = to_grid(gradient, self._layer, self._grid)
            require_gradient(on_grid.flatten(1), self._layer.name, self._keys)
            yield on_grid


def open_at(
    model: ImageTextModel, layer: SaliencyLayer, images: Tensor, texts: Tensor, keys: Sequence[str]
) -> LayerPass:
    """Run the image tower and keep the graph from `layer` on.

    Args:
        model: In evaluation mode.
        layer: Where to open it.
        images: ``(B, 3, H, W)``.
        texts: Unit embeddings, ``(B, P, D)``.
        keys: Names of the images, for messages.

    Raises:
        SaliencyError: The embedding does not come by way of the layer.
    """
    leaves: list[Tensor] = []

    def open_graph(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:  # noqa: ANN401
        if leaves:
            # a tower may read the same layer again, for a second path to its patch features
            return leaves[0] if torch.equal(output, leaves[0]) else None
        leaves.append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)
        return leaves[-1]

    # set_grad_enabled(False) as a context also takes back what the hook switches on
    with torch.set_grad_enabled(False), hooked(model.get_submodule(layer.name), open_graph):
        embeddings = model.encode_image(images)
        live_scores = similarity(embeddings, texts)
    if not leaves or not live_scores.requires_grad:
        raise SaliencyError(
            f"layer {layer.name} takes no part in the image embedding: choose another layer, and switch gradient "
            "checkpointing off"
        )
    activations = to_grid(leaves[0].detach(), layer, model.patch_grid)
    return LayerPass(activations, live_scores.detach(), leaves[0], live_scores, layer, model.patch_grid, keys)


def require_gradient(gradients: Tensor, layer: str, keys: Sequence[str]) -> None:
    """Raise where an image's gradient is exactly zero.

    Args:
        gradients: ``(B, n)``.
        layer: Name of the layer.
        keys: Names of the images.

    Raises:
        ZeroGradientError: The message names layer and images.
    """
    dead = ~(gradients != 0).any(dim=1)  # NaN is not zero
    if dead.any():
        names = ", ".join(key for key, zero in zip(keys, dead.tolist(), strict=True) if zero)
        raise ZeroGradientError(
            f"the similarity has no gradient at the patches of layer {layer} (images: {names}). Towers that pool the "
            "class token have none behind the last block's attention: choose an earlier layer, such as the last "
            "block's first norm, or leave the layer out for the default"
        )


def _one_prompt(scores: Tensor, prompt: int) -> Tensor:
    """Ones in the column of a prompt, zeros elsewhere; the shape of `scores` ``(B, P)``."""
    column = torch.zeros_like(scores)
    column[:, prompt] = 1
    return column


@contextmanager
def hooked(module: nn.Module, hook: Callable[[nn.Module, Any, Tensor], Tensor | None]) -> Iterator[None]:
    """A forward hook for the time of the block, removed whatever happens."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
