"""Scores of a segmented case: overlap, surface distances, the saliency map's ROC, and the pointing game."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from medzeroseg.metrics.surface import DEFAULT_TOLERANCE, Grid, surface_scores

SCORES = ("dsc", "iou", "auc", "pointing", "reference_voxels", "predicted_voxels", "hd95", "nsd", "in_mm")
"""Columns of `CaseScores`, all for one label in one case; those that are not defined there are NaN.

`in_mm`: 1 where HD95 is in mm, 0 where the spacing is lost and it is in pixels.
"""


def overlap_scores(prediction: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Dice similarity coefficient and intersection over union of binary masks, over all voxels of a case.

    Args:
        prediction: (P, ...) bool, P labels.
        reference: The same shape, bool.

    Returns:
        DSC and IoU, each (P,) float64 in [0, 1]. Both are 0 where one mask alone is empty and NaN where both are: a
        label that is rightly not found says nothing about overlap and is counted apart.

    Raises:
        ValueError: The shapes differ.
    """
    _require_same_shape(prediction, reference)
    predicted, true = prediction.flatten(1), reference.flatten(1)
    both = _count(predicted & true)
    total = _count(predicted) + _count(true)
    # 0 / 0 is the NaN that is promised
    return 2 * both / total, both / (total - both)


def _count(masks: Tensor) -> Tensor:
    """(P, N) bool -> (P,) float64: row by row, as torch counts a whole mask 20 times faster than it sums along one."""
    return torch.stack([mask.count_nonzero() for mask in masks]).double()


def pixel_auc(maps: Tensor, reference: Tensor) -> Tensor:
    """Area under the ROC curve of saliency values as a classifier of voxels; exact, ties count one half.

    The probability that a voxel inside is brighter than one outside (the Mann-Whitney statistic): 0.5 is chance,
    below 0.5 the map points away from the structure.

    Args:
        maps: (P, ...) finite saliency, any range, P labels.
        reference: (P, ...) bool.

    Returns:
        (P,) float64 in [0, 1]; NaN where the structure fills all voxels or none.

    Raises:
        ValueError: The shapes differ, or a value is not finite.
    """
    _require_same_shape(maps, reference)
    if not torch.isfinite(maps).all():
        raise ValueError("maps: every saliency value must be finite")
    values = []
    for saliency, inside in zip(maps.flatten(1), reference.flatten(1), strict=True):  # a few labels, each of its size
        positive, negative = _sorted(saliency[inside]), _sorted(saliency[~inside])
        below = torch.searchsorted(negative, positive) + torch.searchsorted(negative, positive, right=True)
        # 0 / 0 is the NaN that is promised
        pairs = torch.tensor(positive.numel() * negative.numel(), dtype=torch.float64)
        values.append(below.sum().double().cpu() / (2 * pairs))
    return torch.stack(values)


def _sorted(values: Tensor) -> Tensor:
    # numpy sorts what lies in memory 30 times faster than torch, which keeps track of where each value was
    return values.sort().values if values.device.type != "cpu" else torch.from_numpy(np.sort(values.numpy()))


def pointing_accuracy(maps: Tensor, reference: Tensor) -> Tensor:
    """The pointing game: the share of slices whose brightest point lies inside the structure.

    Args:
        maps: (P, D, H, W) saliency, P labels, D slices.
        reference: The same shape, bool.

    Returns:
        (P,) float64 in [0, 1], over the slices that hold the structure; NaN where none does.

    Source: Zhang et al., IJCV 2018 ("excitation backprop"), without their tolerance of 15 pixels.
    """
    _require_same_shape(maps, reference)
    saliency, inside = maps.flatten(2), reference.flatten(2)
    hit = inside.gather(2, saliency.argmax(dim=2, keepdim=True)).squeeze(2)
    present = inside.any(dim=2)
    return (hit & present).sum(1).double() / present.sum(1).double()


def score_case(
    masks: Tensor,
    maps: Tensor,
    reference: Tensor,
    valid: Tensor | None = None,
    *,
    spacing_mm: Sequence[float] | None = None,
    surfaces: bool = True,
    tolerance: float = DEFAULT_TOLERANCE,
) -> Tensor:
    """Every score of one case.

    Args:
        masks: (P, D, H, W) bool, what was segmented for each of P labels.
        maps: (P, D, H, W), the saliency that led there, in one scale for all slices of the case.
        reference: (P, D, H, W) bool.
        valid: (D, H, W) bool, the voxels whose label is known; None: all. The others count neither way: they are
            taken out of both masks, whose surfaces then run along them.
        spacing_mm: (dz, dy, dx); NaN or None where lost: HD95 is then in pixels.
        surfaces: Whether to measure HD95 and NSD; NaN if not.
        tolerance: Of the NSD, in mm (or pixels).

    Returns:
        (P, len(SCORES)) float64.

    Raises:
        ValueError: The shapes differ, a saliency value is not finite, or a spacing is not positive.
    """
    lowest = maps
    if valid is not None and not valid.all():
        _require_same_shape(valid.expand_as(masks), masks)
        masks, reference = masks & valid, reference & valid
        lowest = maps.masked_fill(~valid, -torch.inf)
        known_maps, known = maps[:, valid], reference[:, valid]
    else:
        known_maps, known = maps, reference
    dsc, iou = overlap_scores(masks, reference)
    columns = [dsc, iou, pixel_auc(known_maps, known), pointing_accuracy(lowest, reference)]
    columns += [reference.flatten(1).sum(1).double(), masks.flatten(1).sum(1).double()]
    lost = torch.full_like(dsc, torch.nan)
    columns += surface_scores(masks, reference, spacing_mm, tolerance=tolerance) if surfaces else (lost, lost)
    columns.append(torch.full_like(dsc, float(Grid.of(masks.shape[1:], spacing_mm).in_mm)))
    return torch.stack([column.to(dsc) for column in columns], dim=1)


class CaseScores(Metric):
    """Collects the scores of cases over batches and ranks.

    One row for each case and label: the case's position in the dataset, the label's position, then `SCORES`.
    """

    full_state_update = False
    is_differentiable = False

    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    def update(self, case_index: int, scores: Tensor) -> None:
        """Add a case.

        Args:
            case_index: Its position in the dataset.
            scores: (P, len(SCORES)), as `score_case` returns them.
        """
        labels = torch.arange(len(scores), dtype=torch.float64)
        key = torch.stack([torch.full_like(labels, case_index), labels], dim=1)
        self.rows.append(torch.cat([key, scores.double().cpu()], dim=1).to(self.device))

    def compute(self) -> Tensor:
        """All rows, (N, 2 + len(SCORES)) float64, by case and label; a case that two ranks scored counts once."""
        rows = dim_zero_cat(self.rows) if len(self.rows) else torch.zeros(0, 2 + len(SCORES), dtype=torch.float64)
        rows = rows.reshape(-1, 2 + len(SCORES)).cpu()
        keys, inverse = torch.unique(rows[:, :2], dim=0, return_inverse=True)
        first = torch.full((len(keys),), len(rows)).scatter_reduce(0, inverse, torch.arange(len(rows)), "amin")
        return rows[first]


def _require_same_shape(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape:
        raise ValueError(f"shapes differ: {tuple(first.shape)} and {tuple(second.shape)}")
