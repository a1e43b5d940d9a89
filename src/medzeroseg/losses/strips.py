"""One direction of the loss on a strip: a few anchors against all candidates, its gradient by hand.

With p the softmax of an anchor's weighted negative logits u_m, and N = sum w e^{g s} / denominator the share
of its negatives, differentiating :func:`medzeroseg.losses.functional.anchor_losses` gives

    dL_n / ds_nm = N (p_m du_m/ds - b q_m)   for negatives;    dL_n / ds_nn = -N g

where q = softmax(b s) comes from the normaliser of hardness weights (b = beta g; absent elsewhere, and where
the weights are detached). Strips are worked on in place: at these sizes memory traffic is what costs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from medzeroseg.losses.functional import BITS, MIN_SQUARED_DISTANCE, Anchors, Denominator, LogSums

LEAST_SIMILARITY = -2.0  # below that of any two unit vectors


def merge(mine: LogSums, theirs: LogSums) -> LogSums:
    """The sums over two disjoint sets of negatives of the same anchors."""
    peak, total = _merge(mine.peak, mine.total, theirs.peak, theirs.total)
    _, squares = _merge(2.0 * mine.peak, mine.squares, 2.0 * theirs.peak, theirs.squares)
    if mine.hardness_peak is None or mine.hardness_total is None:
        return LogSums(peak, total, squares)
    assert theirs.hardness_peak is not None
    assert theirs.hardness_total is not None
    hardness = _merge(mine.hardness_peak, mine.hardness_total, theirs.hardness_peak, theirs.hardness_total)
    return LogSums(peak, total, squares, *hardness)


def log_sums_(similarity: Tensor, denominator: Denominator, dim: int, out: Tensor, spare: Tensor) -> LogSums:
    """Sums over ``dim`` of a strip: 1 where its rows are the anchors, 0 where its columns are.

    Leaves 2^(u - peak) in ``out``; ``spare`` is overwritten.
    """
    # Where all are excluded the sums are 0, not that many times 2^0.
    largest = similarity.amax(dim).clamp_(min=LEAST_SIMILARITY)
    hardness_peak = hardness_total = None
    if denominator.hardness_slope is not None:
        hardness_peak = largest * (denominator.hardness_slope * BITS)
        hardness_total = (
            _exponents_(similarity, denominator.hardness_slope, None, hardness_peak, dim, out).exp2_().sum(dim)
        )
    peak = _logits(largest, denominator.slope, denominator.distance_weight)  # u grows with s in all of the family
    powers_(similarity, denominator, peak, dim, out)
    # vector_norm is one reading pass, but slow along dimension 0
    by_norm = dim == 1
    squares = torch.linalg.vector_norm(out, dim=1).square_() if by_norm else torch.mul(out, out, out=spare).sum(0)
    return LogSums(peak, out.sum(dim), squares, hardness_peak, hardness_total)


def powers_(similarity: Tensor, denominator: Denominator, peak: Tensor, dim: int, out: Tensor) -> Tensor:
    """2^(u - peak), as :func:`log_sums_` leaves them."""
    return _exponents_(similarity, denominator.slope, denominator.distance_weight, peak, dim, out).exp2_()


class Gradient(NamedTuple):
    """Gradient of the weighted sum of the losses of a strip.

    Attributes:
        by_similarity: the strip's shape; 0 at the excluded pairs, so the positives' are still to come.
        by_slope: 0-d, or None where it was not asked for.
        by_hardness_slope: 0-d, or None.
    """

    by_similarity: Tensor
    by_slope: Tensor | None
    by_hardness_slope: Tensor | None


def gradient_(
    similarity: Tensor,
    denominator: Denominator,
    anchors: Anchors,
    weight: float,
    *,
    out: Tensor,
    spare: Tensor,
    sums: LogSums | None,
    slopes: bool,
) -> Gradient:
    """Gradient of ``weight * sum of L_n``, by the strip's similarities written into ``out``.

    Args:
        similarity: the strip.
        denominator: the member of the family.
        anchors: of the rows if ``sums`` is given, else of the columns.
        weight: of every anchor's loss.
        out: for the result. With ``sums`` it must hold what :func:`log_sums_` left there.
        spare: overwritten.
        sums: what :func:`log_sums_` gave for this very strip, whose rows are then complete.
        slopes: whether the gradients by the slopes are wanted: a pass or two more.
    """
    dim = 0 if sums is None else 1
    slope, distance_weight = denominator.slope, denominator.distance_weight
    weights = anchors.share * weight
    # du/ds, where it is the same for all pairs, goes into the anchors' weights, and these, for columns, into the
    # exponent: a pass less each.
    steepness = denominator.scale if denominator.detach_weights else slope
    steep_weights = weights * steepness if distance_weight is None else weights
    if sums is None:
        shift = (anchors.log_total - steep_weights.log()) * BITS
        _exponents_(similarity, slope, distance_weight, shift, dim, out).exp2_()
    else:
        smallest = torch.finfo(out.dtype).tiny  # without negatives: 0 / 0
        out.mul_((steep_weights / sums.total.clamp(min=smallest)).unsqueeze(1))
    by_slope = torch.mul(out, similarity, out=spare).sum() if slopes else None
    if distance_weight is not None:
        out.mul_(_distance_slope(similarity, distance_weight).add_(slope))
    elif by_slope is not None:
        by_slope = by_slope / steepness
    if denominator.hardness_slope is None or denominator.detach_weights:
        return Gradient(out, by_slope, None)
    assert anchors.hardness_log_total is not None
    shift = (anchors.hardness_log_total - weights.log()) * BITS
    hardness = _exponents_(similarity, denominator.hardness_slope, None, shift, dim, spare).exp2_()
    by_hardness_slope = -(hardness * similarity).sum() if slopes else None
    out.sub_(hardness.mul_(denominator.hardness_slope))
    return Gradient(out, by_slope, by_hardness_slope)


def _logits(similarity: Tensor, slope: Tensor, distance_weight: Tensor | None) -> Tensor:
    """u, in bits."""
    logits = similarity * (slope * BITS)
    return logits if distance_weight is None else logits.sub_(_distance(similarity).mul_(distance_weight * BITS))


def _exponents_(
    similarity: Tensor, slope: Tensor, distance_weight: Tensor | None, shift: Tensor, dim: int, out: Tensor
) -> Tensor:
    """Write u - shift, in bits, into ``out``; ``shift`` belongs to the anchors, whose negatives lie along ``dim``."""
    if dim == 0 and distance_weight is None:  # one pass; with a column to broadcast it would not be vectorised
        return torch.addcmul(-shift, similarity, slope * BITS, out=out)
    torch.mul(similarity, slope * BITS, out=out)
    if distance_weight is not None:
        out.sub_(_distance(similarity).mul_(distance_weight * BITS))
    return out.sub_(shift.unsqueeze(dim))


def _distance(similarity: Tensor) -> Tensor:
    return torch.mul(similarity, -2.0).add_(2.0).clamp_(min=MIN_SQUARED_DISTANCE).sqrt_()


def _distance_slope(similarity: Tensor, distance_weight: Tensor) -> Tensor:
    """Derivative of -distance_weight ||z - s|| by s: distance_weight / ||z - s||; 0 where it is constant."""
    squared = torch.mul(similarity, -2.0).add_(2.0)
    constant = squared < MIN_SQUARED_DISTANCE
    return squared.rsqrt_().mul_(distance_weight).masked_fill_(constant, 0.0)


def _merge(peak: Tensor, total: Tensor, other_peak: Tensor, other_total: Tensor) -> tuple[Tensor, Tensor]:
    larger = torch.maximum(peak, other_peak)
    return larger, total * torch.exp2(peak - larger) + other_total * torch.exp2(other_peak - larger)
