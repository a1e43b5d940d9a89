"""Masks of several structures in one label map."""

import torch
from torch import Tensor


def resolve_overlaps(masks: Tensor, confidence: Tensor) -> tuple[Tensor, int]:
    """Give each voxel to the structure that claims it most.

    Args:
        masks: (P, ...) bool.
        confidence: (P, ...) float, comparable between structures where their masks overlap (divided by
            `highest_confidence`); the first of equals wins.

    Returns:
        (...) uint8 label ids: 0 where no mask is, p + 1 for structure p; and the number of voxels that more than one
        structure claimed.

    Raises:
        ValueError: The shapes differ, or there are more than 254 structures.
    """
    if masks.shape != confidence.shape:
        raise ValueError(f"shapes differ: {tuple(masks.shape)} and {tuple(confidence.shape)}")
    if len(masks) > 254:
        raise ValueError(f"a label map holds at most 254 structures, got {len(masks)}")
    claims = masks.sum(dim=0)
    best = confidence.masked_fill(~masks, float("-inf")).argmax(dim=0)
    labels = (best + 1).where(claims > 0, best.new_zeros(()))
    return labels.byte(), int((claims > 1).sum())


def highest_confidence(masks: Tensor, confidence: Tensor) -> Tensor:
    """What confidence is divided by before overlaps are resolved: each structure's highest within its own mask.

    Probabilities that a text is shown somewhere are on a scale of each structure's own: a left ventricle that is
    nowhere more probable than 0.5 would lose all of itself to a myocardium whose mask covers it at 0.6. Relative to the
    highest, each keeps what it is surest of (docs/localisation.md).

    Args:
        masks: (P, ...) bool, of a whole case.
        confidence: (P, ...) float, 0 or more.

    Returns:
        (P,) float32, over 0; 1 for an empty mask.
    """
    # one structure's temporaries at a time
    within = [sure.masked_fill(~own, 0).amax() for own, sure in zip(masks, confidence, strict=True)]
    highest = torch.stack(within).float()
    return highest.where(highest > 0, highest.new_ones(()))
