"""What of a map belongs to its own prompt: calibration over prompts, and one scale for all slices of a case."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Calibration(ABC):
    """Compares the map of a prompt with those of other prompts on the same image; uses no labels.

    Maps of an image-text model have much in common whatever the text: they follow texture and borders. What is left
    after that is taken away answers the text.
    """

    gives_probabilities = False
    """Whether values are probabilities in [0, 1], each prompt's on a scale of its own."""

    @abstractmethod
    def __call__(self, maps: Tensor, asked: int, projection: bool = False) -> Tensor:
        """Calibrate.

        Args:
            maps: (D, P + C, h, w) raw saliency: of the P prompts asked for, then of C prompts for comparison.
            asked: P, at least 1.
            projection: Whether the pictures show several structures at one place, as X-rays do (`PromptLibrary`).

        Returns:
            (D, P, h, w), any range, larger where the image answers the prompt.
        """


class Raw(Calibration):
    """The maps as they are."""

    def __call__(self, maps: Tensor, asked: int, projection: bool = False) -> Tensor:
        """Leave out the prompts for comparison."""
        return maps[:, :asked]


class MeanOfPrompts(Calibration):
    """The map less the mean map of all prompts: what is common to every text is taken away.

    With one prompt and none for comparison nothing would be left, and the map stays as it is. A map that is one
    constant on a slice, as CAMs are without positive evidence, says nothing of its places: there it stays one constant,
    the lowest of the prompt's, instead of becoming the others' negation.

    Source: the redundant-feature removal of CLIP Surgery (Li et al., arXiv 2304.05653), on maps instead of features.
    """

    def __call__(self, maps: Tensor, asked: int, projection: bool = False) -> Tensor:
        """Subtract the mean over P + C."""
        if maps.shape[1] == 1:
            return maps
        own = maps[:, :asked]
        found = own - maps.mean(dim=1, keepdim=True)
        silent = own.amin(dim=(2, 3), keepdim=True) == own.amax(dim=(2, 3), keepdim=True)
        lowest = found.masked_fill(silent, torch.inf).amin(dim=(0, 2, 3), keepdim=True)
        return found.where(~silent, lowest.nan_to_num(posinf=0.0))  # 0: silent on every slice


class SoftmaxOverPrompts(Calibration):
    """The probability that a place is the prompt's rather than another prompt's.

    Source: dense prediction with class texts, MaskCLIP (Zhou et al., ECCV 2022).
    """

    def __init__(self, temperature: float = 0.05) -> None:
        """Keep the temperature.

        Args:
            temperature: In units of the maps; over 0. Cosine maps differ by hundredths.

        Raises:
            ValueError: It is not over 0.
        """
        if not temperature > 0:
            raise ValueError(f"temperature must be over 0, got {temperature}")
        self.temperature = temperature

    def __call__(self, maps: Tensor, asked: int, projection: bool = False) -> Tensor:
        """Softmax over P + C; a lone prompt stays as it is, its probability would be 1 everywhere."""
        if maps.shape[1] == 1:
            return maps
        return (maps / self.temperature).softmax(dim=1)[:, :asked]


class Presence(Calibration):
    """The probability that a place shows what the prompt names, for maps that are logits.

    Prompts are not compared: in a projection such as an X-ray several structures lie at one place.
    """

    gives_probabilities = True

    def __call__(self, maps: Tensor, asked: int, projection: bool = False) -> Tensor:
        """Sigmoid."""
        return maps[:, :asked].sigmoid()


class PresenceOfPrompts(Calibration):
    """`Presence` times the probability that a place is the prompt's rather than another prompt's.

    For maps that are logits (`saliency.PatchTextEvidence`) of sections, where one structure lies at a place. The first
    factor keeps dark what answers no prompt, where the second must choose one all the same.

    Args:
        in_projections: Whether prompts are compared in projections, too; else those have the first factor alone.
    """

    gives_probabilities = True

    def __init__(self, in_projections: bool = True) -> None:
        """Keep the option."""
        self.in_projections = in_projections

    def __call__(self, maps: Tensor, asked: int, projection: bool = False) -> Tensor:
        """Sigmoid times softmax over P + C; with a lone prompt the sigmoid."""
        if projection and not self.in_projections:
            return maps[:, :asked].sigmoid()
        return (maps.sigmoid() * maps.softmax(dim=1))[:, :asked]


def scale_over_case(maps: Tensor) -> Tensor:
    """Stretch each prompt's maps to [0, 1] over all slices of a case together.

    One scale a case: a slice without the structure stays dark instead of being stretched until something shines.

    Args:
        maps: (D, P, h, w) finite.

    Returns:
        The same shape in [0, 1]; all 0 for a prompt whose maps are one constant: it prefers no place.
    """
    low = maps.amin(dim=(0, 2, 3), keepdim=True)
    span = maps.amax(dim=(0, 2, 3), keepdim=True) - low
    return ((maps - low) / span.where(span > 0, span.new_ones(()))).clamp(0, 1)
