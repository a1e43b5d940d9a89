"""One direction's anchors, and the sums that the gradients of a batch are gathered in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from medzeroseg.losses import strips
from medzeroseg.losses.batch import Batch
from medzeroseg.losses.functional import Anchors, Denominator, LogSums, finish


@dataclass
class ScalarGradients:
    """By the 0-d tensors of one denominator."""

    scale: Tensor
    slope: Tensor
    hardness_slope: Tensor


class Gradients:
    """Accumulators of the gradients of the value.

    Args:
        batch: whose embeddings they belong to.
        embeddings: whether those by the embeddings are wanted.
        scalars: whether those by scale and slopes are wanted.
    """

    def __init__(self, batch: Batch, embeddings: bool, scalars: bool) -> None:
        self.embeddings = embeddings
        self.scalars = scalars
        zero = batch.images.new_zeros(())
        self.image_to_text = ScalarGradients(zero, zero, zero)
        self.text_to_image = ScalarGradients(zero, zero, zero)
        if embeddings:
            self.images = torch.zeros_like(batch.images)
            self.texts = torch.zeros_like(batch.texts)
            self.all_images = self.images if batch.is_whole else torch.zeros_like(batch.all_images)
            self.all_texts = self.texts if batch.is_whole else torch.zeros_like(batch.all_texts)

    @property
    def wanted(self) -> bool:
        """Whether any is."""
        return self.embeddings or self.scalars


class Direction:
    """One direction's anchors, candidates and accumulators."""

    def __init__(self, batch: Batch, denominator: Denominator, gradients: Gradients, from_images: bool) -> None:
        self.batch = batch
        self.denominator = denominator
        self.anchors = batch.images if from_images else batch.texts
        self.candidates = batch.all_texts if from_images else batch.all_images
        self.scalars = gradients.image_to_text if from_images else gradients.text_to_image
        self.wanted = gradients.wanted
        self.slopes = gradients.scalars
        self.embeddings = gradients.embeddings
        if gradients.embeddings:
            self.by_anchors = gradients.images if from_images else gradients.texts
            self.by_candidates = gradients.all_texts if from_images else gradients.all_images
        self.positive = (batch.images * batch.texts).sum(1)
        self.negatives = batch.negatives()
        self.loss = torch.zeros_like(self.positive)
        self.effective = torch.zeros_like(self.positive)

    def finish(self, sums: LogSums, rows: slice) -> Anchors:
        """Note the losses of these anchors."""
        done = finish(sums, self.denominator, self.positive[rows], self.negatives[rows])
        self.loss[rows], self.effective[rows] = done.loss, done.effective_negatives
        return done

    def by_positive(self, anchors: Anchors, rows: slice) -> Tensor:
        """Gradient by these anchors' similarity to their positive, ``(T,)``."""
        weighted = anchors.share * self.batch.weight
        if self.slopes:
            self.scalars.scale = self.scalars.scale - (weighted * self.positive[rows]).sum()
        return weighted.mul_(self.denominator.scale).neg_()

    def gradient_(self, strip: Tensor, anchors: Anchors, *, out: Tensor, spare: Tensor, sums: LogSums | None) -> Tensor:
        """Gradient by the strip's negatives, in ``out``; those by the scalars are added up."""
        weight, slopes = self.batch.weight, self.slopes
        found = strips.gradient_(
            strip, self.denominator, anchors, weight, out=out, spare=spare, sums=sums, slopes=slopes
        )
        if found.by_slope is not None:
            if self.denominator.detach_weights:  # there u = g s + constant
                self.scalars.scale = self.scalars.scale + found.by_slope
            else:
                self.scalars.slope = self.scalars.slope + found.by_slope
        if found.by_hardness_slope is not None:
            self.scalars.hardness_slope = self.scalars.hardness_slope + found.by_hardness_slope
        return found.by_similarity

    def add_products(self, gradient: Tensor, rows: slice) -> None:
        """From the gradient by a whole strip, positives included, to those by the embeddings."""
        if self.embeddings:
            self.by_anchors[rows].addmm_(gradient, self.candidates)
            self.by_candidates.addmm_(gradient.T, self.anchors[rows])

    def add_sparse_products(self, gradient: Tensor, chosen: Tensor, by_positive: Tensor) -> None:
        """The same for ``(B, k)`` gradients by the ``chosen`` candidates, and ``(B,)`` by the positives."""
        if not self.embeddings:
            return
        total, most = chosen.shape
        own = slice(self.batch.offset, self.batch.offset + total)
        self.by_anchors.addcmul_(by_positive[:, None], self.candidates[own])
        self.by_candidates[own].addcmul_(by_positive[:, None], self.anchors)
        bags = F.embedding_bag(chosen, self.candidates, mode="sum", per_sample_weights=gradient)
        self.by_anchors.add_(bags)
        # The same pairs seen from the candidates: sorted by candidate, a bag for each.
        order = chosen.flatten().argsort(stable=True)
        sizes = torch.bincount(chosen.flatten(), minlength=self.batch.candidates)
        bags = F.embedding_bag(
            order // most,
            self.anchors,
            offsets=sizes.cumsum(0) - sizes,
            mode="sum",
            per_sample_weights=gradient.flatten()[order],
        )
        self.by_candidates.add_(bags)
