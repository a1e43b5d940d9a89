"""The image tower from a layer on: what lies before it is computed once and then replayed.

Methods that try many values at one layer would otherwise pay for all the blocks before it every time. Replaying
needs no knowledge of the tower: each module that ran before the layer hands out what it gave in the
recorded pass. While a tail runs its model must not be used by another thread.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from medzeroseg.models import ImageTextModel
from medzeroseg.saliency.errors import SaliencyError
from medzeroseg.saliency.gradients import hooked


class Tail:
    """A recorded pass of a batch, to be continued from the layer with other values.

    Args:
        model: In evaluation mode.
        layer: Module path.
        images: ``(B, 3, H, W)``; runs through the tower once, here.

    Attributes:
        embeddings: Of the recorded pass, ``(B, D)``, L2-normalised.
        output: The layer's output in the recorded pass, ``(B, ...)``.

    Raises:
        SaliencyError: The layer does not run.
    """

    def __init__(self, model: ImageTextModel, layer: str, images: Tensor) -> None:
        """Run the whole tower once and record what came before the layer."""
        self._model = model
        self._layer = model.get_submodule(layer)
        self._images = images
        self._recorded: dict[nn.Module, list[Tensor]] = {}
        outputs: list[Tensor] = []
        with torch.no_grad(), ExitStack() as hooks:
            for module in _beside_the_path(model, layer):
                hooks.enter_context(hooked(module, self._recorder(outputs)))
            hooks.enter_context(hooked(self._layer, lambda module, inputs, output: outputs.append(output)))
            self.embeddings = model.encode_image(images)
        if not outputs:
            raise SaliencyError(f"layer {layer} takes no part in the image embedding: choose another layer")
        self.output = outputs[0]

    def run(self, values: Tensor, image: Tensor) -> Tensor:
        """Continue from the layer.

        Args:
            values: In place of the layer's output, ``(n, ...)``; gradients flow back to them.
            image: The image that each of them belongs to, ``(n,)`` long.

        Returns:
            Embeddings ``(n, D)``, L2-normalised.
        """
        with ExitStack() as replaced:
            for module, outputs in self._recorded.items():
                rows = (_rows(output, image) for output in outputs)
                replaced.enter_context(_replaced_forward(module, _replay(rows, module.forward)))
            replaced.enter_context(_replaced_forward(self._layer, lambda *inputs, **options: values))
            return self._model.encode_image(_rows(self._images, image))

    def _recorder(self, outputs: list[Tensor]) -> Callable[[nn.Module, Any, Any], None]:
        def record(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ANN401
            if not outputs and isinstance(output, Tensor) and len(output) == len(self._images):
                self._recorded.setdefault(module, []).append(output)

        return record


def _beside_the_path(model: nn.Module, layer: str) -> Iterator[nn.Module]:
    """The children of all the layer's ancestors that are not ancestors themselves."""
    parent = model
    for name in layer.split("."):
        yield from (child for child_name, child in parent.named_children() if child_name != name)
        parent = parent.get_submodule(name)


def _rows(recorded: Tensor, image: Tensor) -> Tensor:
    """The rows of the images; without a copy where all are the same image."""
    if (image == image[0]).all():
        return recorded[image[0]].expand(len(image), *recorded.shape[1:])
    return recorded[image]


def _replay(rows: Iterator[Tensor], forward: Callable[..., Any]) -> Callable[..., Any]:
    """The recorded outputs in their order; a module that runs on both sides of the layer then runs for real."""

    def replayed(*inputs: Any, **options: Any) -> Any:  # noqa: ANN401
        recorded = next(rows, None)
        return forward(*inputs, **options) if recorded is None else recorded

    return replayed


@contextmanager
def _replaced_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Another forward for the time of the block; the module is as before whatever happens."""
    own = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own
