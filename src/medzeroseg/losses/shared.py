"""Both directions from one exponential, where their denominators are equal.

Each pair's u is then the same seen from its image and from its text. With r_n the largest u of row anchor n,
P_nm = 2^(u_nm - r_n) gives the row sums; and as 2^(u_nm - R) = 2^(r_n - R) P_nm for any constant R, a product with the
vector of lifts l_n = 2^(r_n - R) gives the column sums. The gradient of both directions is P_nm (a_n + l_n b_m), with
a_n and b_m the anchors' weight x share x slope over their sum. So one exponential a pair suffices, where each direction
on its own takes one for its sum and, for columns, another one for the gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medzeroseg.losses.batch import EXCLUDED, Batch
from medzeroseg.losses.functional import BITS, Anchors, Denominator, LogSums, finish


def applies(first: Denominator, second: Denominator) -> bool:
    """Whether u is the same number in both directions, and proportional to s. On a GPU the host waits for it."""
    return first.distance_weight is None and first.hardness_slope is None and first == second


def dense_loss(batch: Batch, denominators: tuple[Denominator, Denominator]) -> tuple[Tensor, Tensor] | None:
    """As :func:`medzeroseg.losses.functional.dense_loss`, where :func:`applies` holds, for a single process.

    Returns:
        None where one exponential would lose digits.
    """
    # With the slope in the embeddings its gradient is a sum over M x D products, not M x M.
    powers = (batch.images * (denominators[0].slope * BITS)) @ batch.texts.T
    # Marked outside of autograd: an excluded pair's power is 0, and so is its gradient.
    ignored, marked = batch.ignored(), powers.detach()
    _ = marked.fill_diagonal_(EXCLUDED) if ignored is None else marked.masked_fill_(ignored, EXCLUDED)
    peak = marked.amax(1)
    powers = powers.sub_(peak[:, None]).exp2_()
    by_columns = column_sums(powers, peak)
    negatives = batch.negatives()
    if not are_exact(by_columns, negatives):
        return None
    by_rows = LogSums(peak, powers.sum(1), torch.linalg.vector_norm(powers.detach(), dim=1).square())
    positive = (batch.images * batch.texts).sum(1)
    first, second = (
        finish(sums, denominator, positive, negatives)
        for sums, denominator in zip((by_rows, by_columns), denominators, strict=True)
    )
    value = (first.loss.sum() + second.loss.sum()) * batch.weight
    return value, torch.stack([first.effective_negatives.sum(), second.effective_negatives.sum()])


def factors(anchors: Anchors, sums: LogSums, denominator: Denominator, weight: float) -> Tensor:
    """By what anchors' powers, relative to the peaks of their ``sums``, become gradients by similarities."""
    smallest = torch.finfo(sums.total.dtype).tiny  # without negatives: 0 / 0
    return anchors.share * (weight * denominator.slope) / sums.total.clamp(min=smallest)


def column_sums(powers: Tensor, peak: Tensor, spare: Tensor | None = None) -> LogSums:
    """Sums over the rows of a strip that holds 2^(u - peak), ``peak`` being each row's; ``spare`` is overwritten."""
    top = peak.max()
    lift = torch.exp2(peak - top)
    constant = powers.detach()
    squares = lift.square() @ torch.mul(constant, constant, out=spare)
    # without negatives 0, whose logarithm has no derivative
    total = (lift @ powers).clamp_min(torch.finfo(powers.dtype).tiny)
    return LogSums(top.expand(powers.shape[1]), total, squares)


def are_exact(columns: LogSums, negatives: Tensor) -> bool:
    """Whether no power that underflowed in its row matters to its column.

    Such a power, or its square, is below ``tiny``. Where the sum of squares is at least tiny / eps^2, a million of
    them are less than the rounding of the sum. Not so where an image's nearest negative is far nearer than all the
    negatives of some text: in float32, with logits that differ by 28 and more.
    """
    numbers = torch.finfo(columns.squares.dtype)
    enough = columns.squares >= numbers.tiny / numbers.eps**2
    return bool((enough | (negatives == 0)).all())


def gradient_(powers: Tensor, rows: Tensor, lift: Tensor, columns: Tensor, spare: Tensor) -> Tensor:
    """Gradient of both directions by the strip's negatives, in place of its ``powers``.

    Args:
        powers: the strip of P_nm.
        rows: a_n, the factors of its row anchors.
        lift: l_n, from the rows' peaks to that of the columns' sums.
        columns: b_m, the factors of the column anchors.
        spare: overwritten.
    """
    torch.mm(torch.stack([rows, lift], 1), torch.stack([torch.ones_like(columns), columns]), out=spare)
    return powers.mul_(spare)
