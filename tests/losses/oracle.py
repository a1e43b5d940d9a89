"""The formulas of the family as slow float64 loops over scalars, independent of the package.

Nothing here works in log space, on matrices, or shares code with `medzeroseg.losses`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

# Weights of anchor n's negatives, from the scaled similarities and the pair of vectors.
Weigh = Callable[[list[Tensor], list[Tensor]], list[Tensor]]


def uniform(scaled: list[Tensor], distances: list[Tensor]) -> list[Tensor]:
    return [torch.ones((), dtype=torch.float64) for _ in scaled]


def hardness(beta: float) -> Weigh:
    def weigh(scaled: list[Tensor], distances: list[Tensor]) -> list[Tensor]:
        total = sum(torch.exp(beta * s) for s in scaled)
        return [len(scaled) * torch.exp(beta * s) / total for s in scaled]

    return weigh


def near(difficulty: float, squared: bool) -> Weigh:
    def weigh(scaled: list[Tensor], distances: list[Tensor]) -> list[Tensor]:
        return [torch.exp(-difficulty * (d * d if squared else d)) for d in distances]

    return weigh


def one_direction(
    anchors: Tensor,
    candidates: Tensor,
    scale: Tensor | float,
    weigh: Weigh,
    positive_weight: float = 1.0,
    ids: Sequence[int] | None = None,
    keep: Callable[[int], int] | None = None,
) -> tuple[Tensor, float]:
    """Mean loss over the anchors, and their mean effective number of negatives."""
    total: Tensor = torch.zeros((), dtype=torch.float64)
    effective = 0.0
    size = len(anchors)
    for n in range(size):
        others = [m for m in range(size) if m != n and (ids is None or ids[m] != ids[n])]
        scaled = [scale * (anchors[n] * candidates[m]).sum() for m in others]
        distances = [((anchors[n] - candidates[m]) ** 2).sum().sqrt() for m in others]
        terms = [w * torch.exp(s) for w, s in zip(weigh(scaled, distances), scaled, strict=True)]
        if keep is not None:
            terms = sorted(terms, key=Tensor.item, reverse=True)[: keep(len(terms))]
        positive = torch.exp(scale * (anchors[n] * candidates[n]).sum())
        below = positive_weight * positive + sum(terms)
        if below.item() > 0:
            total = total - torch.log(positive / below)
        if terms:
            effective += (sum(terms) ** 2 / sum(t * t for t in terms)).item()
    return total / size, effective / size


def loss(
    images: Tensor,
    texts: Tensor,
    scale: Tensor | float,
    weigh_image_to_text: Weigh,
    weigh_text_to_image: Weigh,
    positive_weight: float = 1.0,
    ids: Sequence[int] | None = None,
    keep: Callable[[int], int] | None = None,
) -> tuple[Tensor, tuple[float, float]]:
    """Both directions added, and the effective negatives of each."""
    first, a = one_direction(images, texts, scale, weigh_image_to_text, positive_weight, ids, keep)
    second, b = one_direction(texts, images, scale, weigh_text_to_image, positive_weight, ids, keep)
    return first + second, (a, b)


def hardest_fraction(fraction: float) -> Callable[[int], int]:
    return lambda negatives: max(1, math.ceil(round(fraction * negatives, 9)))
