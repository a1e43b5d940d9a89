"""Masks of structures, which may overlap and contain one another, as one map of a dataset's label ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medzeroseg.zero_shot.overlaps import highest_confidence

UNKNOWN = 255
"""Label id of voxels that a loss leaves out."""


@dataclass(frozen=True)
class PseudoLabels:
    """The pseudo-mask of a case.

    Attributes:
        labels: (D, H, W) uint8 label ids, 0 background, `UNKNOWN` where the confidence filter says so.
        score: Mean confidence of the voxels that were claimed, in [0, 1]; 0 where nothing was.
    """

    labels: Tensor
    score: float


def label_map(
    masks: Tensor,
    confidence: Tensor,
    parts: Mapping[str, Sequence[int]],
    *,
    uncertain: tuple[float, float] | None = None,
    minimum_score: float = 0.0,
) -> PseudoLabels:
    """Turn the masks of structures into the label ids that make them up.

    A structure whose ids are some of another's lies inside it (an infection in the lungs): what of its mask leaves the
    outer mask is dropped, and it lies on top of it. Where others overlap, the more confident one wins, relative to the
    highest confidence within its own mask (`zero_shot.highest_confidence`), the first of equals.

    Args:
        masks: (P, D, H, W) bool, in the order of `parts`.
        confidence: The same shape, float in [0, 1].
        parts: Structure -> the label ids whose union it is.
        uncertain: Voxels whose highest confidence in any structure lies strictly between the two become `UNKNOWN`.
        minimum_score: A case that scores below becomes `UNKNOWN` altogether: it teaches nothing.

    Returns:
        The labels. Voxels of an outer structure that is wholly made up of inner ones, none of which claims them, are
        `UNKNOWN`.

    Raises:
        ValueError: The shapes differ.
    """
    if masks.shape != confidence.shape or len(masks) != len(parts):
        raise ValueError(f"{len(parts)} structures, masks {tuple(masks.shape)}, confidence {tuple(confidence.shape)}")
    ids = [frozenset(of_part) for of_part in parts.values()]
    outside = [[n for n, other in enumerate(ids) if own < other] for own in ids]
    claims = torch.stack([masks[[n, *outer]].all(dim=0) for n, outer in enumerate(outside)])
    depth = torch.tensor([float(len(outer)) for outer in outside], device=masks.device)
    relative = confidence.float() / highest_confidence(claims, confidence).view(-1, 1, 1, 1)
    # Of what is claimed it is at most 1: two levels' distance keeps an inner structure above its outer one.
    rank = relative + 2 * depth.view(-1, 1, 1, 1)
    best = rank.masked_fill(~claims, -torch.inf).argmax(dim=0)
    own = [sorted(mine - frozenset().union(*(other for other in ids if other < mine))) for mine in ids]
    label_of = torch.tensor([one[0] if one else UNKNOWN for one in own], dtype=torch.uint8, device=masks.device)
    claimed = claims.any(dim=0)
    labels = label_of[best].where(claimed, label_of.new_zeros(()))
    highest = confidence.float().amax(dim=0)
    score = float(highest[claimed].mean()) if claimed.any() else 0.0
    if uncertain is not None:
        labels[(highest > uncertain[0]) & (highest < uncertain[1])] = UNKNOWN
    if score < minimum_score:
        labels = torch.full_like(labels, UNKNOWN)
    return PseudoLabels(labels, score)
