"""What the image and the text tower have in common: layers, and how they are computed in training."""

from abc import ABC, abstractmethod
from typing import Any, Literal

from torch import nn

Layer = list[nn.Module | nn.Parameter]
"""What makes up one layer of a tower."""


class Tower(ABC):
    """An adapter of an open_clip tower; it holds a reference and no parameters of its own."""

    #: whether the shape of its input changes from batch to batch
    any_shape: bool = False

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """The tower."""

    @abstractmethod
    def layers(self) -> list[Layer]:
        """The layers from the input: the stem or embedding first, then block by block.

        The last norm and the projection to the joint space belong to none.
        """

    def blocks(self) -> list[nn.Module]:
        """The modules of the blocks, from the input; each is called as such, and can be compiled by itself."""
        return [part for layer in self.layers()[1:] for part in layer if isinstance(part, nn.Module)]

    def stacks(self) -> list[nn.Module]:
        """Modules that run the blocks one after another, as few as there are; a tower without any gives its blocks."""
        return self.blocks()

    def freeze(self, layers: int | Literal["all"]) -> list[nn.Module]:
        """Have no parameter of the first layers trained.

        Args:
            layers: How many; `all` for the whole tower, with its last norm and projection.

        Returns:
            The frozen modules. In evaluation mode they drop nothing and keep their batch statistics.

        Raises:
            ValueError: The tower has not so many layers.
        """
        found = self.layers() if layers != "all" else [[self.module]]
        count = len(found) if layers == "all" else layers
        if not 0 <= count <= len(found):
            name = type(getattr(self.module, "trunk", self.module)).__name__
            raise ValueError(f"cannot freeze {layers} layers of {name}, which has {len(found)}")
        frozen = [part for layer in found[:count] for part in layer]
        for part in frozen:
            part.requires_grad_(False)
        return [part for part in frozen if isinstance(part, nn.Module)]

    def set_grad_checkpointing(self, enable: bool) -> None:
        """Recompute activations in the backward pass.

        Raises:
            ValueError: The tower cannot; names it.
        """
        module: Any = self.module
        module.set_grad_checkpointing(enable)
