"""How a task's network is computed, without changing what it is."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class Performance:
    """Switches that change speed and memory, but neither weights nor checkpoints.

    Args:
        channels_last: Keep the weights of convolutions with the channels innermost; what they compute then is laid out
            so as well. For convolutional networks on GPUs with tensor cores.
        compile: Compile the repeated parts of the network with `torch.compile` for the training: blocks of
            transformers, stages of convolutional towers, a segmentation network as a whole. The first steps take
            minutes.
        compile_backend: Of `torch.compile`.
        compile_mode: Of `torch.compile`; None for its default.
        compile_dynamic: Of `torch.compile`: None lets shapes that were seen to change be dynamic.

    Raises:
        ValueError: There is no such backend.
    """

    channels_last: bool = False
    compile: bool = False
    compile_backend: str = "inductor"
    compile_mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] | None = None
    compile_dynamic: bool | None = None

    def __post_init__(self) -> None:
        """Refuse what would fail when the training starts."""
        if self.compile and self.compile_backend not in torch.compiler.list_backends(exclude_tags=()):
            known = ", ".join(torch.compiler.list_backends())  # without those for finding faults
            raise ValueError(f"compile_backend must be one of {known}, got {self.compile_backend!r}")

    def lay_out(self, module: nn.Module) -> None:
        """Lay out the weights of a module that is whole, before ranks share it; values and names stay."""
        if self.channels_last:
            module.to(memory_format=torch.channels_last)

    def start(self, parts: Iterable[nn.Module]) -> None:
        """Compile modules in place: their names, and so the checkpoints, stay as they are."""
        if not self.compile:
            return
        for part in parts:
            part.compile(backend=self.compile_backend, mode=self.compile_mode, dynamic=self.compile_dynamic)

    def stop(self, parts: Iterable[nn.Module]) -> None:
        """Undo that: what looks into a network by hooks sees nothing of compiled parts."""
        if self.compile:
            for part in parts:
                part._compiled_call_impl = None
