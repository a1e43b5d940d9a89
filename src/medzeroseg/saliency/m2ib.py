"""Multi-modal information bottleneck attribution (M2IB)."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from medzeroseg.models import ImageTextModel, SaliencyLayer
from medzeroseg.saliency.base import SaliencyMethod, similarity
from medzeroseg.saliency.gradients import require_gradient
from medzeroseg.saliency.layers import block_at, to_grid
from medzeroseg.saliency.noise import keyed_noise
from medzeroseg.saliency.tail import Tail


class M2IB(SaliencyMethod):
    """How much information each position must let through to keep the image close to the text.

    Behind a block, its output x becomes t = lambda x + (1 - lambda) noise with lambda = sigmoid(alpha), one alpha for
    each value. Adam minimises beta * I - cosine, where I is the mean of KL[N(lambda x, (1 - lambda)^2) || N(0, 1)]; the
    map is that divergence, summed over the channels, in nats.

    Images and prompts are optimised together, each with its own alpha: Adam works value by value, so none knows
    of the others. The blocks before the bottleneck run once per image, those behind it once per step and copy.

    Args:
        layer: Module path of the block; None for the one at three quarters of the depth (the tenth of ViT-B's twelve).
        beta: Weight of the compression; larger makes the map sparser.
        steps: Steps of Adam. As in the authors' code the map belongs to the alpha with which the last step starts.
        learning_rate: Of Adam.
        copies: Noise samples in each step, over which the cosine is averaged.
        initial_alpha: 5 lets 99 % of the signal through at the start.
        chunk_size: Noisy copies in one pass through the tail; bounds the memory, does not change the map. One
            image and prompt at least go together.

    Source: Wang et al., "Visual Explanations of Image-Text Representations via Multi-Modal Information Bottleneck
    Attribution", NeurIPS 2023, equations 5 to 9; values that the paper leaves out are those of the authors' code.
    """

    title: ClassVar[str] = "M2IB"

    def __init__(
        self,
        layer: str | None = None,
        beta: float = 0.1,
        steps: int = 10,
        learning_rate: float = 1.0,
        copies: int = 10,
        initial_alpha: float = 5.0,
        chunk_size: int = 40,
    ) -> None:
        """Keep the options."""
        super().__init__(layer)
        for name, count in (("steps", steps), ("copies", copies), ("chunk_size", chunk_size)):
            if count < 1:
                raise ValueError(f"{name} must be at least 1, not {count}")
        if beta < 0 or learning_rate <= 0:
            raise ValueError(f"beta must be at least 0 and learning_rate above 0, not {beta} and {learning_rate}")
        self.beta = beta
        self.steps = steps
        self.learning_rate = learning_rate
        self.copies = copies
        self.initial_alpha = initial_alpha
        self.chunk_size = chunk_size

    def _default_layer(self, model: ImageTextModel) -> SaliencyLayer:
        return block_at(model, 0.75)

    def _maps(self, model: ImageTextModel, images: Tensor, texts: Tensor, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
        layer = self._layer(model)
        tail = Tail(model, layer.name, images)
        pairs = torch.cartesian_prod(torch.arange(len(images)), torch.arange(texts.shape[1]))
        grid = model.patch_grid
        maps = []
        for chunk in torch.split(pairs, max(1, self.chunk_size // self.copies)):
            image, prompt = (index.to(images.device) for index in chunk.unbind(dim=1))
            information = self._information(tail, image, texts[image, prompt], layer, grid, keys)
            maps.append(to_grid(information, layer, grid).sum(dim=1))
        return torch.unflatten(torch.cat(maps), 0, texts.shape[:2]), similarity(tail.embeddings, texts)

    def _information(
        self,
        tail: Tail,
        image: Tensor,
        texts: Tensor,
        layer: SaliencyLayer,
        grid: tuple[int, int],
        keys: Sequence[str],
    ) -> Tensor:
        """Divergence of each value after the optimisation of n pairs: ``(n, ...)`` as the layer's output.

        Args:
            tail: The recorded pass.
            image: Index of each pair's image, ``(n,)``.
            texts: Unit embedding of each pair's text, ``(n, D)``.
            layer: Where the bottleneck sits.
            grid: Rows and columns of the patches.
            keys: Names of all images of the batch.
        """
        signal = tail.output[image].float()
        alpha = torch.full_like(signal, self.initial_alpha)
        optimiser = torch.optim.Adam([alpha], lr=self.learning_rate)
        for step in range(self.steps - 1):
            passed, blocked = alpha.sigmoid(), (-alpha).sigmoid()
            noise = self._noise(image, keys, step, signal)
            noisy = torch.lerp(noise, signal[:, None], passed[:, None])
            gradient = self._gradient_of_cosine(tail, noisy, image, texts)
            if step == 0:
                on_patches = to_grid(gradient.mean(dim=1), layer, grid).flatten(1)
                require_gradient(on_patches, layer.name, [keys[i] for i in image.tolist()])
            fitting = (gradient * (signal[:, None] - noise)).mean(dim=1) * passed * blocked
            # derivative of the divergence by alpha, with the pole of 1 / (1 - lambda) cancelled
            compression = passed * (1 + (signal.square() * passed - blocked) * blocked) / signal[0].numel()
            alpha.grad = self.beta * compression - fitting
            optimiser.step()
        return divergence(signal, alpha)

    def _noise(self, image: Tensor, keys: Sequence[str], step: int, signal: Tensor) -> Tensor:
        """Noise of a step, ``(n, copies, ...)``: the same for all prompts of an image."""
        present, place = torch.unique_consecutive(image, return_inverse=True)
        drawn = [keyed_noise(keys[i], step, (self.copies, *signal.shape[1:])) for i in present.tolist()]
        return torch.stack(drawn).to(signal.device)[place]

    def _gradient_of_cosine(self, tail: Tail, noisy: Tensor, image: Tensor, texts: Tensor) -> Tensor:
        """Gradient of each copy's cosine at its values, shaped as `noisy` ``(n, copies, ...)``."""
        leaf = noisy.flatten(0, 1).to(tail.output.dtype).requires_grad_()
        with torch.enable_grad():
            embeddings = tail.run(leaf, image.repeat_interleave(self.copies))
            total = (embeddings * texts.repeat_interleave(self.copies, dim=0)).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
        return torch.unflatten(gradient.float(), 0, noisy.shape[:2])


def divergence(signal: Tensor, alpha: Tensor) -> Tensor:
    """KL[N(lambda x, (1 - lambda)^2) || N(0, 1)] in nats, lambda = sigmoid(alpha); finite for any alpha."""
    blocked = (-alpha).sigmoid()
    return 0.5 * ((signal * alpha.sigmoid()).square() + blocked.square() - 1) - F.logsigmoid(-alpha)
