"""The loss family as pure tensor maths, and its plain computation on a whole similarity matrix.

Every member has, for anchor ``n`` with similarities ``s_nm`` to the candidates and logit scale ``g``, the
form

    L_n = -g s_nn + log( c exp(g s_nn) + sum_{m in N_n} w_nm exp(g s_nm) )

and differs in the positive's weight ``c`` and in the negatives' weights ``w``. :class:`Denominator` holds
that difference; everything below is common, and stays in log space.

Where an anchor has no negative left (all share its caption and are ignored), the sum is empty: with ``c > 0``
its loss is ``log c`` with zero gradient, with ``c = 0`` it is *defined* as 0 with zero gradient [O].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from medzeroseg.losses.batch import EXCLUDED, Batch
from medzeroseg.losses.selection import HardSelection

# Of a squared distance. The l2 norm has no derivative at 0; below this it is taken as constant. Float32
# rounds 2 - 2s to about 1e-7 for unit vectors, so a smaller bound would let rounding noise steer the
# gradient.
MIN_SQUARED_DISTANCE = 1e-6

# Exponents over the pairs are in bits and go through exp2: MKL's exp, behind torch.exp, is up to 100 times
# slower where the result underflows: most pairs at a logit scale of 100. The factor goes into the slopes.
BITS = math.log2(math.e)


@dataclass(frozen=True)
class Denominator:
    """What a member of the family puts under its fraction, for one direction.

    The weighted logit of a negative, ``log w_nm + g s_nm``, is ``u_nm - intercept`` with
    ``u = slope * s - distance_weight * ||z - s||_2``; hardness weights, as in HN-NCE, add to it
    ``log K_n - logsumexp_k(hardness_slope * s_nk)`` with ``K_n`` the anchor's number of negatives.

    Attributes:
        scale: the logit scale ``g``, 0-d, positive.
        slope: 0-d, positive; ``g`` for uniform weights, ``(1 + beta) g`` for hardness weights, ``g + 2
            lambda`` for ``exp(-lambda ||z - s||^2)``, whose exponent is ``-2 lambda + 2 lambda s`` on unit
            vectors.
        intercept: 0-d or a float.
        positive_log_weight: ``log c``; None where the positive is absent from the denominator.
        hardness_slope: 0-d ``beta g``, positive, or None.
        distance_weight: 0-d ``lambda`` of the unsquared distance, or None.
        detach_weights: whether hardness weights count as constants in the gradient.
    """

    scale: Tensor
    slope: Tensor
    intercept: Tensor | float = 0.0
    positive_log_weight: float | None = 0.0
    hardness_slope: Tensor | None = None
    distance_weight: Tensor | None = None
    detach_weights: bool = False


class LogSums(NamedTuple):
    """Sums over each anchor's negatives, ``(B,)`` each; the peaks are in bits, that is divided by log 2.

    Attributes:
        peak: the largest u.
        total: sum of exp(u - peak).
        squares: sum of exp(2 (u - peak)).
        hardness_peak: the largest hardness_slope * s, or None.
        hardness_total: sum of exp(hardness_slope * s - hardness_peak), or None.
    """

    peak: Tensor
    total: Tensor
    squares: Tensor
    hardness_peak: Tensor | None = None
    hardness_total: Tensor | None = None


class Anchors(NamedTuple):
    """What is known of each anchor once all its negatives have been seen, ``(B,)`` each.

    Attributes:
        loss: L_n.
        effective_negatives: (sum p)^2 / sum p^2 over the anchor's weighted negatives p, detached: 1 where one
            of them carries the sum, their number where all weigh the same, 0 where there is none.
        share: the negatives' part of the denominator, in [0, 1].
        log_total: log of sum exp(u).
        hardness_log_total: log of sum exp(hardness_slope * s), or None.
    """

    loss: Tensor
    effective_negatives: Tensor
    share: Tensor
    log_total: Tensor
    hardness_log_total: Tensor | None


def finish(sums: LogSums, denominator: Denominator, positive: Tensor, negatives: Tensor) -> Anchors:
    """From sums over the negatives to losses.

    Args:
        sums: over all negatives of ``B`` anchors.
        denominator: the member of the family.
        positive: ``(B,)`` similarity to the positive.
        negatives: ``(B,)`` long, how many negatives the anchors have (before selection).
    """
    empty = negatives == 0
    log_total = ((sums.peak + sums.total.log2()) / BITS).masked_fill(empty, 0.0)
    log_negatives = log_total - denominator.intercept
    hardness_log_total = None
    if sums.hardness_peak is not None and sums.hardness_total is not None:
        hardness_log_total = (sums.hardness_peak + sums.hardness_total.log2()) / BITS
        hardness_log_total = hardness_log_total.masked_fill(empty, 0.0)
        log_negatives = log_negatives + negatives.clamp(min=1).to(positive.dtype).log() - hardness_log_total
    log_negatives = log_negatives.masked_fill(empty, -math.inf)
    logit = denominator.scale * positive
    if denominator.positive_log_weight is None:
        loss = (log_negatives - logit).masked_fill(empty, 0.0)
        share = torch.ones_like(loss).masked_fill(empty, 0.0)
    else:
        log_denominator = torch.logaddexp(denominator.positive_log_weight + logit, log_negatives)
        loss = log_denominator - logit
        share = torch.exp(log_negatives.detach() - log_denominator.detach())
    effective = (sums.total.detach().square() / sums.squares).masked_fill(empty, 0.0)
    return Anchors(loss, effective, share, log_total, hardness_log_total)


def anchor_losses(
    similarity: Tensor,
    denominator: Denominator,
    positive: Tensor,
    negatives: Tensor,
    selection: HardSelection | None = None,
) -> Anchors:
    """One direction for every anchor, differentiable through autograd.

    Args:
        similarity: ``(B, M)`` of each anchor to all candidates, EXCLUDED where these are no negatives.
        denominator: the member of the family.
        positive: ``(B,)`` similarity of each anchor to its positive.
        negatives: ``(B,)`` long, how many negatives each anchor has.
        selection: hard negatives to keep; exactly that many, whichever of equals.
    """
    if selection is not None:
        # by similarity: in all the family the weighted logits grow with it
        similarity = _hardest(similarity, selection, negatives)
    if denominator.hardness_slope is not None and denominator.detach_weights:
        constant = (denominator.hardness_slope * BITS * similarity).detach()
        logits = denominator.scale * BITS * similarity + constant
    else:
        logits = denominator.slope * BITS * similarity
    if denominator.distance_weight is not None:
        squared = (2.0 - 2.0 * similarity).clamp_min(MIN_SQUARED_DISTANCE)
        logits = logits - denominator.distance_weight * BITS * squared.sqrt()
    peak, powers, total = _sum_of_powers(logits)
    # vector_norm reads the powers once and writes nothing
    squares = torch.linalg.vector_norm(powers.detach(), dim=1).square()
    hardness_peak = hardness_total = None
    if denominator.hardness_slope is not None:
        hardness = denominator.hardness_slope * BITS * similarity
        if denominator.detach_weights:
            hardness = hardness.detach()
        hardness_peak, _, hardness_total = _sum_of_powers(hardness)
    sums = LogSums(peak, total, squares, hardness_peak, hardness_total)
    return finish(sums, denominator, positive, negatives)


def dense_loss(
    batch: Batch, denominators: tuple[Denominator, Denominator], selection: HardSelection | None = None
) -> tuple[Tensor, Tensor]:
    """Both directions added, each averaged over the anchors of all ranks.

    Returns:
        The value, 0-d (with several ranks: this rank's part, scaled so that the ranks' mean is the global
        value), and, detached, the sums of both directions' effective negatives over this rank's anchors,
        ``(2,)``.
    """
    from_images, negatives = _exclude(batch.images @ batch.all_texts.T, batch)
    from_texts = from_images.T if batch.is_whole else _exclude(batch.texts @ batch.all_images.T, batch)[0]
    positive = (batch.images * batch.texts).sum(1)
    first, second = (
        anchor_losses(similarity, denominator, positive, negatives, selection)
        for similarity, denominator in zip((from_images, from_texts), denominators, strict=True)
    )
    value = (first.loss.sum() + second.loss.sum()) * batch.weight
    return value, torch.stack([first.effective_negatives.sum(), second.effective_negatives.sum()])


def _exclude(similarity: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The similarities with the pairs that are no negatives marked, and each anchor's number of negatives."""
    count, candidates = similarity.shape
    ignored = batch.ignored()
    if ignored is not None:
        return similarity.masked_fill(ignored, EXCLUDED), candidates - ignored.sum(1)
    marks = similarity.new_full((count,), EXCLUDED)
    negatives = torch.full((count,), candidates - 1, device=similarity.device)
    return similarity.diagonal_scatter(marks, batch.offset), negatives


def _hardest(similarity: Tensor, selection: HardSelection, negatives: Tensor) -> Tensor:
    """The hardest of each row, ``(B, k)``; rows entitled to fewer than k are filled up with EXCLUDED."""
    hardest = similarity.topk(selection.most(similarity.shape[1] - 1), dim=1).values
    position = torch.arange(hardest.shape[1], device=hardest.device)
    return hardest.masked_fill(position >= selection.per_anchor(negatives)[:, None], EXCLUDED)


def _sum_of_powers(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The row maxima (constants: they cancel), the powers of two below them, and their sums.

    What torch.logsumexp does, but the powers serve again: in the backward pass and for their squares.
    """
    peak = logits.detach().amax(1)
    powers = (logits - peak[:, None]).exp2()
    return peak, powers, powers.sum(1)
