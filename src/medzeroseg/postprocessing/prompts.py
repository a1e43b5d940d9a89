"""Boxes and points for promptable segmenters, from masks. Pixel (x, y) is column x, row y, counted from 0."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

INSIDE = 1
OUTSIDE = 0
NO_POINT = -1
"""Point labels, as SAM's: on the structure, beside it, and padding where a mask has no (more) place for a point."""


def boxes_from_masks(masks: Tensor, margin_px: int = 0) -> Tensor:
    """The smallest box around each mask.

    Args:
        masks: ``(B, P, H, W)`` bool.
        margin_px: Pixels to add on every side, within the image.

    Returns:
        ``(B, P, 4)`` int64: first column, first row, last column, last row, all inside the box (SAM's convention); four
        times -1 where the mask is empty.
    """
    _check(masks)
    if margin_px < 0:
        raise ValueError(f"margin_px must be at least 0, not {margin_px}")
    first_x, last_x = _extent(masks.any(dim=2))
    first_y, last_y = _extent(masks.any(dim=3))
    height, width = masks.shape[2:]
    corners = [
        (first_x - margin_px).clamp(min=0),
        (first_y - margin_px).clamp(min=0),
        (last_x + margin_px).clamp(max=width - 1),
        (last_y + margin_px).clamp(max=height - 1),
    ]
    return torch.stack(corners, dim=-1).masked_fill(~masks.flatten(2).any(dim=2)[..., None], -1)


def points_from_masks(masks: Tensor, positives: int = 1, negatives: int = 0) -> tuple[Tensor, Tensor]:
    """Points inside and outside each mask, the same every time.

    The first point inside is the one deepest inside (largest distance to the mask's edge; the image's border counts as
    an edge); each next is as far as possible from edge and earlier points alike (the smaller of the two). Points
    outside follow the same rule within the mask's box enlarged by half its size on every side: beyond it they
    would tell a segmenter nothing. Of equal pixels the first in reading order.

    Args:
        masks: ``(B, P, H, W)`` bool.
        positives: Points inside.
        negatives: Points outside.

    Returns:
        Points ``(B, P, positives + negatives, 2)`` int64 (x, y), and their labels ``(B, P, positives + negatives)``
        int64: `INSIDE`, `OUTSIDE`, or `NO_POINT` (at -1, -1) where there is none.
    """
    _check(masks)
    if positives < 0 or negatives < 0 or positives + negatives == 0:
        raise ValueError(f"positives and negatives must be at least 0, one above, not {positives} and {negatives}")
    stack = masks.flatten(0, 1).cpu().numpy()
    surroundings = _surroundings(boxes_from_masks(masks).flatten(0, 1).cpu().numpy(), *masks.shape[2:])
    kinds = [(stack, positives, INSIDE), (~stack & surroundings, negatives, OUTSIDE)]
    points, labels = [], []
    for places, count, label in kinds:
        found = _spread(places, count)
        points.append(found)
        labels.append(np.where(found[..., 0] >= 0, label, NO_POINT))
    shape = (*masks.shape[:2], positives + negatives)
    return (
        torch.from_numpy(np.concatenate(points, axis=1)).reshape(*shape, 2).to(masks.device),
        torch.from_numpy(np.concatenate(labels, axis=1)).reshape(shape).to(masks.device),
    )


def _spread(places: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Up to `count` points in each of the areas ``(n, H, W)``, deepest first: ``(n, count, 2)``, -1 for none."""
    n, height, width = places.shape
    # a frame of outside pixels makes the border an edge; areas are too far apart to see each other
    framed = np.pad(places, ((0, 0), (1, 1), (1, 1)))
    room = ndimage.distance_transform_edt(framed, sampling=(height + width + 2, 1, 1))[:, 1:-1, 1:-1]
    rows, columns = np.mgrid[:height, :width]
    points = np.full((n, count, 2), -1, dtype=np.int64)
    for i in range(count):
        y, x = np.divmod(room.reshape(n, -1).argmax(axis=1), width)
        found = room[np.arange(n), y, x] > 0
        points[found, i] = np.stack([x, y], axis=1)[found]
        # a point has no distance to itself, so it is never chosen twice
        room = np.minimum(room, np.hypot(rows - y[:, None, None], columns - x[:, None, None]))
    return points


def _surroundings(boxes: NDArray[np.int64], height: int, width: int) -> NDArray[np.bool_]:
    """Boxes ``(n, 4)`` enlarged by half their size, as masks ``(n, H, W)``; empty where there is no box."""
    x0, y0, x1, y1 = boxes.T[..., None]
    more_x, more_y = (x1 - x0 + 2) // 2, (y1 - y0 + 2) // 2
    columns, rows = np.arange(width), np.arange(height)
    across = (columns >= x0 - more_x) & (columns <= x1 + more_x)
    down = (rows >= y0 - more_y) & (rows <= y1 + more_y)
    inside: NDArray[np.bool_] = down[:, :, None] & across[:, None, :] & (x0 >= 0)[:, :, None]
    return inside


def _extent(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """First and last index of the occupied lines ``(B, P, n)``."""
    index = torch.arange(occupied.shape[2], device=occupied.device)
    first = torch.where(occupied, index, occupied.shape[2]).amin(dim=2)
    last = torch.where(occupied, index, -1).amax(dim=2)
    return first, last


def _check(masks: Tensor) -> None:
    if masks.ndim != 4 or masks.dtype != torch.bool:
        raise ValueError(f"masks must be (B, P, H, W) bool, not {tuple(masks.shape)} {masks.dtype}")
