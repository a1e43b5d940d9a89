"""Masks of several structures in one label map."""

from torch import Tensor


def resolve_overlaps(masks: Tensor, confidence: Tensor) -> tuple[Tensor, int]:
    """Give each voxel to the structure that claims it most.

    Args:
        masks: (P, ...) bool.
        confidence: (P, ...) float, comparable between structures where their masks overlap; the first of equals wins.

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
