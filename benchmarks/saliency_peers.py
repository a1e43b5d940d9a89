"""What benchmarks/segment.py and the saliency tests compare with: the published forms, one image and prompt at a time.

Written from the papers and the behaviour of the authors' programs. They are slow on purpose: full-size masks for all
channels, every copy through the whole tower, a backward pass through all weights.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from pytorch_grad_cam.base_cam import BaseCAM
from torch import Tensor, nn
from torch.nn import functional as F

from medzeroseg.models import ImageTextModel, SaliencyLayer

if TYPE_CHECKING:
    from collections.abc import Iterator


class Logits(nn.Module):
    """The model as the `grad-cam` package wants it: images in, one logit for each prompt out."""

    def __init__(self, model: ImageTextModel, texts: Tensor) -> None:
        """Keep the model and the unit text embeddings ``(P, D)``."""
        super().__init__()
        self.model = model
        self.texts = texts

    def forward(self, images: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)`` -> logits ``(B, P)``."""
        return self.model.logit_scale.detach() * self.model.encode_image(images) @ self.texts.T


def package_maps(
    method: type[BaseCAM], model: ImageTextModel, layer: SaliencyLayer, images: Tensor, texts: Tensor
) -> Tensor:
    """The `grad-cam` package's maps, ``(B, P, H, W)``: image size, each stretched to [0, 1]."""
    grid = model.patch_grid

    def to_grid(output: Tensor) -> Tensor:
        return _grid(output, layer, grid)

    maps = []
    with method(Logits(model, texts), [model.get_submodule(layer.name)], reshape_transform=to_grid) as cam:
        for prompt in range(len(texts)):
            targets = [_pick(prompt)] * len(images)
            maps.append(torch.from_numpy(cam(input_tensor=images, targets=targets)))
    return torch.stack(maps, dim=1)


def g_score_cam_loop(
    model: ImageTextModel,
    layer: SaliencyLayer,
    images: Tensor,
    texts: Tensor,
    channels: int = 300,
    batch_size: int = 128,
) -> Tensor:
    """GScoreCAM as its authors run it: image by image, prompt by prompt. ``(B, P, h, w)``.

    The choice of channels and the softmax are those of `GScoreCAM`'s docstring, or the maps could not be equal.
    """
    kept: dict[str, Tensor] = {}

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:  # noqa: ANN401
        kept["activation"] = output
        output.register_hook(lambda gradient: kept.update(gradient=gradient))  # type: ignore[no-untyped-call]

    maps = []
    for image in images:
        for text in texts:
            handle = model.get_submodule(layer.name).register_forward_hook(keep)
            logit = model.logit_scale.detach() * (model.encode_image(image[None])[0] @ text)
            handle.remove()
            logit.backward()
            model.zero_grad()
            activation, gradient = (_grid(kept[x].detach(), layer, model.patch_grid)[0] for x in kept)
            with torch.no_grad():
                enlarged = F.interpolate(activation[None], image.shape[1:], mode="bilinear", align_corners=True)[0]
                low, high = enlarged.amin((1, 2), keepdim=True), enlarged.amax((1, 2), keepdim=True)
                masked = image[None] * ((enlarged - low) / (high - low + 1e-8))[:, None]
                chosen = gradient.abs().mean((1, 2)).argsort(descending=True)[:channels]
                masked = masked[chosen]
                scores = [
                    model.logit_scale * (model.encode_image(masked[i : i + batch_size]) @ text)
                    for i in range(0, len(masked), batch_size)
                ]
                weights = torch.zeros(len(activation))
                weights[chosen] = torch.cat(scores).softmax(dim=0)
                maps.append((weights[:, None, None] * activation).sum(0).relu())
    return torch.stack(maps).unflatten(0, (len(images), len(texts)))  # type: ignore[no-untyped-call, no-any-return]


def m2ib_loop(
    model: ImageTextModel,
    layer: SaliencyLayer,
    images: Tensor,
    texts: Tensor,
    noise: Callable[[int, int, tuple[int, ...]], Tensor],
    *,
    beta: float = 0.1,
    steps: int = 10,
    copies: int = 10,
) -> Tensor:
    """M2IB as its authors run it: image by image, prompt by prompt, all copies through the whole tower.

    Args:
        model: The model; gradients of its weights are computed as well, where they are not frozen.
        layer: The bottleneck's place.
        images: ``(B, 3, H, W)``.
        texts: Unit embeddings ``(P, D)``.
        noise: (image, step, shape) -> standard normal.
        beta: Weight of the compression.
        steps: Of Adam.
        copies: Of each image.

    Returns:
        ``(B, P, h, w)``.
    """
    maps = []
    for number, image in enumerate(images):
        for text in texts:
            maps.append(_m2ib_one(model, layer, image, text, partial(noise, number), beta, steps, copies))
    return torch.stack(maps).unflatten(0, (len(images), len(texts)))  # type: ignore[no-untyped-call, no-any-return]


def _m2ib_one(
    model: ImageTextModel,
    layer: SaliencyLayer,
    image: Tensor,
    text: Tensor,
    noise: Callable[[int, tuple[int, ...]], Tensor],
    beta: float,
    steps: int,
    copies: int,
) -> Tensor:
    module = model.get_submodule(layer.name)
    with torch.no_grad(), _output_of(module) as outputs:
        model.encode_image(image[None])
    alpha = torch.full_like(outputs[0], 5.0).requires_grad_()
    optimiser = torch.optim.Adam([alpha], lr=1.0)
    capacity = torch.zeros(())
    for step in range(steps):
        optimiser.zero_grad()

        def bottleneck(module: nn.Module, inputs: Any, x: Tensor, step: int = step) -> Tensor:  # noqa: ANN401
            nonlocal capacity
            passed = torch.sigmoid(alpha).expand_as(x)
            mean, variance = x * passed, (1 - passed) ** 2
            capacity = -0.5 * (1 + torch.log(variance) - mean**2 - variance)
            return mean + variance.sqrt() * noise(step, tuple(x.shape))

        handle = module.register_forward_hook(bottleneck)
        embeddings = model.encode_image(image.expand(copies, -1, -1, -1))
        handle.remove()
        loss = beta * capacity.mean() - F.cosine_similarity(embeddings, text[None], eps=1e-6).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    model.zero_grad()
    return _grid(capacity.detach().mean(0, keepdim=True), layer, model.patch_grid)[0].sum(0)


@contextmanager
def _output_of(module: nn.Module) -> Iterator[list[Tensor]]:
    outputs: list[Tensor] = []
    handle = module.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    yield outputs
    handle.remove()


def _pick(prompt: int) -> Callable[[Tensor], Tensor]:
    return lambda logits: logits[prompt]


def _grid(values: Tensor, layer: SaliencyLayer, grid: tuple[int, int]) -> Tensor:
    if layer.kind == "grid":
        return values
    return values[:, layer.prefix_tokens :].transpose(1, 2).reshape(len(values), -1, *grid)
