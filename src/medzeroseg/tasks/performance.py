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
        compile_dynamic: Of `torch.compile`: None lets shapes that were seen to change be dynamic. The text tower, whose
            batches differ in length, is compiled for any shape in any case.
        compile_unit: `block`: those of a transformer one by one, all alike. `tower`: all of them at once, which takes
            several times as long to compile; but Python calls each block otherwise, and a fast GPU waits for that.

    Raises:
        ValueError: There is no such backend.
    """

    channels_last: bool = False
    compile: bool = False
    compile_backend: str = "inductor"
    compile_mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] | None = None
    compile_dynamic: bool | None = None
    compile_unit: Literal["block", "tower"] = "block"

    def __post_init__(self) -> None:
        """Refuse what would fail when the training starts."""
        if self.compile and self.compile_backend not in torch.compiler.list_backends(exclude_tags=()):
            known = ", ".join(torch.compiler.list_backends())  # without those for finding faults
            raise ValueError(f"compile_backend must be one of {known}, got {self.compile_backend!r}")

    def lay_out(self, module: nn.Module) -> None:
        """Lay out the weights of a module that is whole, before ranks share it; values and names stay."""
        if self.channels_last:
            module.to(memory_format=torch.channels_last)

    def start(self, parts: Iterable["Part"]) -> None:
        """Compile modules in place: their names, and so the checkpoints, stay as they are."""
        if not self.compile:
            return
        for part in parts:
            dynamic = True if part.any_shape else self.compile_dynamic
            part.module.compile(backend=self.compile_backend, mode=self.compile_mode, dynamic=dynamic)

    def stop(self, parts: Iterable["Part"]) -> None:
        """Undo that: what looks into a network by hooks sees nothing of compiled parts."""
        if self.compile:
            for part in parts:
                part.module._compiled_call_impl = None


@dataclass(frozen=True)
class Part:
    """Something that is compiled by itself.

    Attributes:
        module: What; it is called as a module.
        any_shape: Whether its input is of another shape in nearly every step.
    """

    module: nn.Module
    any_shape: bool = False
