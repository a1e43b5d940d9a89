"""The ways through the strips: each finishes every anchor's loss and, on the way, adds up the gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medzeroseg.losses import shared, strips
from medzeroseg.losses.batch import EXCLUDED, Batch
from medzeroseg.losses.direction import Direction, Gradients
from medzeroseg.losses.functional import Anchors, Denominator, LogSums
from medzeroseg.losses.selection import HardSelection, hardest, hold_hardest_

# What `auto` means, as measured by benchmarks/losses.py.
DENSE_UP_TO = 256  # pairs
STRIP_ELEMENTS = 2**21
SMALLEST_STRIP = 128  # anchors; below, the products lose more than the cache gains
KEEP_BYTES = 2**29  # 512 MiB: S for 11,585 pairs in float32, S and a second matrix for 8,192
TRANSPOSED_BLOCK = 256  # rows; half as many, and torch copies a block in one thread only


@dataclass(frozen=True)
class Plan:
    """How to go through the strips.

    Attributes:
        rows: anchors a strip.
        keep_bytes: up to this size, S is computed once and kept for the second direction.
    """

    rows: int
    keep_bytes: int = 0


def automatic_plan(candidates: int) -> Plan | None:
    """What ``tile_size: auto`` stands for: dense for small batches, else strips that fit a CPU's cache."""
    if candidates <= DENSE_UP_TO:
        return None
    return Plan(rows=max(SMALLEST_STRIP, STRIP_ELEMENTS // candidates), keep_bytes=KEEP_BYTES)


class Traversal:
    """The strips of a batch.

    Args:
        batch: the pairs.
        denominators: of both directions, image to text first.
        selection: the hard negatives to keep, or None for all.
        plan: how.
        gradients: what to add the gradients to.
    """

    def __init__(
        self,
        batch: Batch,
        denominators: tuple[Denominator, Denominator],
        selection: HardSelection | None,
        plan: Plan,
        gradients: Gradients,
    ) -> None:
        self.batch = batch
        self.selection = selection
        self.first = Direction(batch, denominators[0], gradients, from_images=True)
        self.second = Direction(batch, denominators[1], gradients, from_images=False)
        total, rows = len(batch.images), min(plan.rows, len(batch.images))
        self.slices = [slice(start, min(start + rows, total)) for start in range(0, total, rows)]
        self.few = selection is not None and selection.is_few(batch.candidates)
        # The slope's gradient comes from the embeddings' there.
        self.sharing = shared.applies(*denominators) and (gradients.embeddings or not gradients.scalars)
        self.strip, self.out, self.other, self.spare = (
            batch.images.new_empty(rows, batch.candidates) for _ in range(4)
        )
        # Selection of many needs a second matrix, for the column anchors' gradient.
        matrices = 1 if selection is None or self.few else 2
        fits = matrices * total * batch.candidates * batch.images.element_size() <= plan.keep_bytes
        self.kept = batch.images.new_empty(total, batch.candidates) if batch.is_whole and fits else None

    def run(self) -> tuple[Tensor, Tensor]:
        """The value, and the sums of both directions' effective negatives, ``(2,)``."""
        if self.few:
            self._few_negatives(self.first)
            self._few_negatives(self.second)
        elif self.selection is None and self.batch.is_whole:
            if not (self.sharing and self._symmetric_shared()):
                self._symmetric()
        elif self.kept is not None:
            self._symmetric_selected(self.kept)
        else:
            self._one_direction(self.first)
            self._one_direction(self.second)
        value = (self.first.loss.sum() + self.second.loss.sum()) * self.batch.weight
        return value, torch.stack([self.first.effective.sum(), self.second.effective.sum()])

    def _similarities(self, direction: Direction, rows: slice) -> Tensor:
        """The strip of these anchors, excluded pairs marked; what is kept of the first serves the second."""
        count = rows.stop - rows.start
        if self.kept is not None and direction is self.second:
            return _transposed(self.kept, rows, out=self.strip[:count])
        out = self.strip[:count] if self.kept is None else self.kept[rows]
        torch.mm(direction.anchors[rows], direction.candidates.T, out=out)
        out.diagonal(self.batch.offset + rows.start)[:count].fill_(EXCLUDED)
        ignored = self.batch.ignored(rows.start, rows.stop)
        return out if ignored is None else out.masked_fill_(ignored, EXCLUDED)

    def _complete_(self, direction: Direction, strip: Tensor, rows: slice) -> Tensor | None:
        """Finish anchors from their complete rows, less those selection drops; the gradient by the strip."""
        if self.selection is not None:
            hold_hardest_(strip, self.selection.per_anchor(direction.negatives[rows]))
        out, spare = self.out[: len(strip)], self.spare[: len(strip)]
        sums = strips.log_sums_(strip, direction.denominator, 1, out, spare)
        anchors = direction.finish(sums, rows)
        if not direction.wanted:
            return None
        gradient = direction.gradient_(strip, anchors, out=out, spare=spare, sums=sums)
        gradient.diagonal(self.batch.offset + rows.start)[: len(strip)].copy_(direction.by_positive(anchors, rows))
        return gradient

    def _one_direction(self, direction: Direction) -> None:
        for rows in self.slices:
            gradient = self._complete_(direction, self._similarities(direction, rows), rows)
            if gradient is not None:
                direction.add_products(gradient, rows)

    def _symmetric_shared(self) -> bool:
        """For equal denominators. False where one exponential would lose digits; nothing is done then."""
        first, second, everyone = self.first, self.second, slice(0, self.batch.candidates)
        weight = self.batch.weight
        of_rows: list[tuple[LogSums, Anchors]] = []
        sums: LogSums | None = None
        for rows in self.slices:
            powers, spare = self._similarities(first, rows), self.spare[: rows.stop - rows.start]
            of_strip = strips.log_sums_(powers, first.denominator, 1, out=powers, spare=spare)
            of_rows.append((of_strip, first.finish(of_strip, rows)))
            by_columns = shared.column_sums(powers, of_strip.peak, spare)
            sums = by_columns if sums is None else strips.merge(sums, by_columns)
        assert sums is not None
        if not shared.are_exact(sums, second.negatives):
            return False
        columns = second.finish(sums, everyone)
        if not first.wanted:
            return True
        by_positive = second.by_positive(columns, everyone)
        column_factors = shared.factors(columns, sums, second.denominator, weight)
        for rows, (of_strip, anchors) in zip(self.slices, of_rows, strict=True):
            spare = self.spare[: rows.stop - rows.start]
            if self.kept is None:
                strip = self._similarities(first, rows)
                powers = strips.powers_(strip, first.denominator, of_strip.peak, 1, out=strip)
            else:
                powers = self.kept[rows]
            lift = torch.exp2(of_strip.peak - sums.peak[0])
            row_factors = shared.factors(anchors, of_strip, first.denominator, weight)
            gradient = shared.gradient_(powers, row_factors, lift, column_factors, spare)
            by_positive[rows] += first.by_positive(anchors, rows)
            gradient.diagonal(rows.start)[: len(gradient)].copy_(by_positive[rows])
            first.add_products(gradient, rows)
        if first.slopes:
            # sum_nm G_nm s_nm = sum_n z_n . (G S)_n: M x D products, where the strips would take M x M.
            both = (first.by_anchors * first.anchors).sum() - by_positive @ first.positive
            first.scalars.slope = first.scalars.slope + both / first.denominator.slope
        return True

    def _symmetric(self) -> None:
        first, second, everyone = self.first, self.second, slice(0, self.batch.candidates)
        sums: LogSums | None = None
        for rows in self.slices:
            strip = self._similarities(first, rows)
            out, spare = self.out[: len(strip)], self.spare[: len(strip)]
            of_strip = strips.log_sums_(strip, second.denominator, 0, out, spare)
            sums = of_strip if sums is None else strips.merge(sums, of_strip)
        assert sums is not None
        columns = second.finish(sums, everyone)
        by_positive = second.by_positive(columns, everyone) if second.wanted else None
        for rows in self.slices:
            strip = self._similarities(first, rows) if self.kept is None else self.kept[rows]
            gradient = self._complete_(first, strip, rows)
            if gradient is None or by_positive is None:
                continue
            other, spare = self.other[: len(strip)], self.spare[: len(strip)]
            gradient.add_(second.gradient_(strip, columns, out=other, spare=spare, sums=None))
            gradient.diagonal(rows.start)[: len(strip)].add_(by_positive[rows])
            first.add_products(gradient, rows)

    def _symmetric_selected(self, kept: Tensor) -> None:
        for rows in self.slices:
            self._similarities(self.first, rows)
        of_columns = torch.empty_like(kept) if self.second.wanted else None
        for rows in self.slices:
            gradient = self._complete_(self.second, self._similarities(self.second, rows), rows)
            if gradient is not None and of_columns is not None:
                _transpose_into(of_columns, rows, gradient)
        for rows in self.slices:
            gradient = self._complete_(self.first, kept[rows], rows)
            if gradient is not None and of_columns is not None:
                self.first.add_products(gradient.add_(of_columns[rows]), rows)

    def _few_negatives(self, direction: Direction) -> None:
        assert self.selection is not None
        allowed = self.selection.per_anchor(direction.negatives)
        most = self.selection.most(self.batch.candidates - 1)
        total = len(direction.anchors)
        chosen = torch.empty(total, most, dtype=torch.long, device=allowed.device)
        values = direction.anchors.new_empty(total, most)
        for rows in self.slices:
            values[rows], chosen[rows] = hardest(self._similarities(direction, rows), most)
        values.masked_fill_(torch.arange(most, device=allowed.device) >= allowed[:, None], EXCLUDED)
        out, spare, everyone = torch.empty_like(values), torch.empty_like(values), slice(0, total)
        sums = strips.log_sums_(values, direction.denominator, 1, out, spare)
        anchors = direction.finish(sums, everyone)
        if not direction.wanted:
            return
        by_positive = direction.by_positive(anchors, everyone)
        gradient = direction.gradient_(values, anchors, out=out, spare=spare, sums=sums)
        direction.add_sparse_products(gradient, chosen, by_positive)


def _transposed(matrix: Tensor, columns: slice, out: Tensor) -> Tensor:
    """``matrix[:, columns].T`` into ``out``, in blocks that fit the cache: 8 times as fast as one copy."""
    for start in range(0, len(matrix), TRANSPOSED_BLOCK):
        block = slice(start, start + TRANSPOSED_BLOCK)
        out[:, block].copy_(matrix[block, columns].T)
    return out


def _transpose_into(matrix: Tensor, columns: slice, rows: Tensor) -> None:
    """The reverse: ``matrix[:, columns] = rows.T``."""
    for start in range(0, len(matrix), TRANSPOSED_BLOCK):
        block = slice(start, start + TRANSPOSED_BLOCK)
        matrix[block, columns].copy_(rows[:, block].T)
