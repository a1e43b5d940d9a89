"""Whether maps and scores answer the text: correlation between prompts, and scores against nonsense."""

import torch
from torch import Tensor
from torchmetrics import Metric


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
    nonsense: Tensor

    def __init__(self, methods: int) -> None:
        super().__init__()
        for name in ("correlation", "slices"):
            self.add_state(name, torch.zeros(methods, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("above", "pairs", "own", "nonsense"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, method: int, maps: Tensor) -> None:
        """Add a method's maps of a batch.

        Args:
            method: Its position.
            maps: (B, P, h, w); see `prompt_correlation`.
        """
        correlation = prompt_correlation(maps)
        self.correlation[method] += correlation.nansum()
        self.slices[method] += correlation.isfinite().sum()

    def add_scores(self, scores: Tensor, present: Tensor, nonsense: Tensor) -> None:
        """Add the image-text scores of a batch.

        Args:
            scores: (B, P) cosine of each image with each structure's prompt.
            present: (B, P) bool, whether the image shows the structure; the others are not counted.
            nonsense: (B, N) cosine with prompts of what no image shows.
        """
        own = scores.double()[present]
        other = nonsense.double()[present.nonzero()[:, 0]]
        self.above += (own[:, None] > other).sum()
        self.pairs += other.numel()
        self.own += other.shape[1] * own.sum()
        self.nonsense += other.sum()

    def compute(self) -> dict[str, Tensor]:
        """The means; NaN where nothing was counted.

        Returns:
            `correlation` and `slices` (M,); `above_nonsense`, the share of pairs of a structure shown and a nonsense
            prompt in which the structure has the higher score; `pairs`; `score` and `nonsense_score`, mean cosines.
        """
        return {
            "correlation": self.correlation / self.slices,  # 0 / 0 is the NaN that is promised
            "slices": self.slices,
            "above_nonsense": self.above / self.pairs,
            "pairs": self.pairs,
            "score": self.own / self.pairs,
            "nonsense_score": self.nonsense / self.pairs,
        }
