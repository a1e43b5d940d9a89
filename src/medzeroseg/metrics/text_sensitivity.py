"""Whether maps and scores answer the text: correlation between prompts, and scores against those of other prompts."""

import torch
from torch import Tensor
from torchmetrics import Metric

OTHERS = ("nonsense", "foreign", "absent")
"""What a structure that is shown contests with: words that no image shows, structures of other modalities, and
structures asked for that the same image lacks."""


def prompt_correlation(maps: Tensor) -> Tensor:
    """Mean Pearson correlation between the maps of different prompts on the same image.

    1: the map is the same whatever is asked. Near 0, or below: each prompt has its own map.

    Args:
        maps: (B, P, h, w) finite saliency, P at least 2.

    Returns:
        (B,) float64 in [-1, 1], over the pairs of prompts; a constant map correlates with nothing and its pairs are
        left out, NaN where no pair is left.

    Raises:
        ValueError: There are fewer than two prompts.
    """
    if maps.shape[1] < 2:
        raise ValueError(f"maps: a correlation needs at least 2 prompts, got {maps.shape[1]}")
    values = maps.flatten(2).double()
    centred = values - values.mean(dim=2, keepdim=True)
    length = centred.norm(dim=2, keepdim=True)
    # rounding leaves a little of a constant map
    varies = length > 1e-9 * values.norm(dim=2, keepdim=True)
    unit = centred / length.where(varies, torch.full_like(length, torch.nan))
    first, second = torch.triu_indices(maps.shape[1], maps.shape[1], offset=1, device=maps.device)
    correlation: Tensor = (unit @ unit.transpose(1, 2))[:, first, second]
    return correlation.nanmean(dim=1).clamp(-1, 1)


class TextSensitivityMetric(Metric):
    """Sums, over slices and ranks, of what the text changes.

    Args:
        methods: How many saliency methods are compared.
    """

    full_state_update = False
    is_differentiable = False

    correlation: Tensor
    slices: Tensor
    above: Tensor
    pairs: Tensor
    own: Tensor
    other: Tensor

    def __init__(self, methods: int) -> None:
        super().__init__()
        for name in ("correlation", "slices"):
            self.add_state(name, torch.zeros(methods, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("above", "pairs", "own", "other"):
            self.add_state(name, torch.zeros(len(OTHERS), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, method: int, maps: Tensor) -> None:
        """Add a method's maps of a batch.

        Args:
            method: Its position.
            maps: (B, P, h, w); see `prompt_correlation`.
        """
        correlation = prompt_correlation(maps)
        self.correlation[method] += correlation.nansum()
        self.slices[method] += correlation.isfinite().sum()

    def add_scores(self, scores: Tensor, present: Tensor, nonsense: Tensor, foreign: Tensor) -> None:
        """Add the scores of a batch; higher: the image rather answers the prompt.

        Each structure that an image shows contests with every prompt of `OTHERS` that this image does not show; a tie
        is no win.

        Args:
            scores: (B, P), of each image and each structure's prompt.
            present: (B, P) bool, whether the image shows the structure.
            nonsense: (B, N), of prompts of what no image shows.
            foreign: (B, F), of prompts of structures of other modalities; F may be 0.
        """
        images, structures = present.nonzero().unbind(dim=1)
        own = scores.double()[images, structures]
        for n, (others, absent) in enumerate(((nonsense, None), (foreign, None), (scores, ~present))):
            other = others.double()[images]
            counted = torch.ones_like(other, dtype=torch.bool) if absent is None else absent[images]
            self.above[n] += ((own[:, None] > other) & counted).sum()
            self.pairs[n] += counted.sum()
            self.own[n] += (own[:, None] * counted).sum()
            self.other[n] += (other * counted).sum()

    def compute(self) -> dict[str, Tensor]:
        """The means; NaN where nothing was counted.

        Returns:
            `correlation` and `slices` (M,); in the order of `OTHERS`, (3,) each: `above`, the share of pairs in which
            the structure that is shown has the higher score; `pairs`; `score` and `other_score`, mean scores of both.
        """
        return {
            "correlation": self.correlation / self.slices,  # 0 / 0 is the NaN that is promised
            "slices": self.slices,
            "above": self.above / self.pairs,
            "pairs": self.pairs,
            "score": self.own / self.pairs,
            "other_score": self.other / self.pairs,
        }
