"""The one protocol of the steps from a saliency map to a mask.

A step is called as ``step(maps, images, features)``:

- maps: ``(B, P, H, W)``; float in [0, 1] before a `Binariser`, bool after it. P prompts do not influence each other.
- images: ``(B, H, W)`` float in [0, 1], the grey image on the maps' pixels, or None.
- features: ``(B, C, h, w)`` float, dense features of the image on any grid, or None.

It returns ``(B, P, H, W)``. Steps keep nothing between calls, and no image or prompt influences another.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor


class Step(ABC):
    """One step of the post-processing. Subclasses derive from one of the three kinds below."""

    #: whether the step works on masks (bool) or on maps (float)
    takes_masks: bool
    gives_masks: bool

    def __call__(self, maps: Tensor, images: Tensor | None = None, features: Tensor | None = None) -> Tensor:
        """Check the input and run the step; arguments as the module's docstring says.

        Raises:
            ValueError: Shapes, types or values that a step cannot take.
        """
        self._check(maps)
        if maps.numel() == 0:
            return maps.bool() if self.gives_masks else maps
        return self._run(maps, images, features)

    @abstractmethod
    def _run(self, maps: Tensor, images: Tensor | None, features: Tensor | None) -> Tensor:
        """The step itself, on checked maps of at least one value."""

    def _check(self, maps: Tensor) -> None:
        name = type(self).__name__
        if maps.ndim != 4:
            raise ValueError(f"{name}: maps must be (B, P, H, W), not {tuple(maps.shape)}")
        if self.takes_masks:
            if maps.dtype != torch.bool:
                raise ValueError(f"{name} works on masks: put a binariser such as Otsu before it")
            return
        if not maps.dtype.is_floating_point:
            raise ValueError(f"{name} works on float maps, not on {maps.dtype}: put it before the binariser")
        if maps.numel() and not (maps.amin() >= 0 and maps.amax() <= 1):  # NaN fails as well
            raise ValueError(f"{name}: maps must lie in [0, 1] and be finite; normalise_maps makes them so")


class Refiner(Step):
    """Maps in, maps out: float in [0, 1]."""

    takes_masks = False
    gives_masks = False


class Binariser(Step):
    """Maps in, masks out."""

    takes_masks = False
    gives_masks = True


class MaskCleaner(Step):
    """Masks in, masks out."""

    takes_masks = True
    gives_masks = True


class PostProcessing(Step):
    """Several steps in a row: refiners, then one binariser, then mask cleaners.

    Args:
        steps: In the order in which they run.

    Raises:
        ValueError: A step that works on masks comes before there is one, or none makes masks.
    """

    takes_masks = False
    gives_masks = True

    def __init__(self, steps: Sequence[Step]) -> None:
        """Check the order and keep the steps."""
        masks = False
        for step in steps:
            if step.takes_masks != masks:
                kind = "masks" if step.takes_masks else "maps"
                raise ValueError(
                    f"steps: {type(step).__name__} works on {kind}, which it would not get: "
                    "refiners, one binariser, then mask cleaners"
                )
            masks = step.gives_masks
        if not masks:
            raise ValueError("steps: no step makes a mask of the map: end the refiners with a binariser such as Otsu")
        self.steps = tuple(steps)

    def _run(self, maps: Tensor, images: Tensor | None, features: Tensor | None) -> Tensor:
        for step in self.steps:
            maps = step(maps, images, features)
        return maps
