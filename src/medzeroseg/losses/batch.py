"""What one call of a loss works on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medzeroseg import distributed

# The similarity given to pairs that are no negatives. Any positive slope turns it into a weight of exactly 0,
# and, unlike -inf, 0 x EXCLUDED is 0.
EXCLUDED = -1e30


@dataclass(frozen=True)
class Batch:
    """This rank's pairs and the candidates of all ranks.

    Attributes:
        images: ``(B, D)`` this rank's image embeddings.
        texts: ``(B, D)`` this rank's text embeddings.
        all_images: ``(M, D)`` those of all ranks; ``images`` itself in a single process.
        all_texts: ``(M, D)``; ``texts`` itself in a single process.
        offset: the position of this rank's first pair among the M.
        text_ids: ``(B,)`` long where pairs with equal ids are no negatives of each other, else None.
        all_text_ids: ``(M,)`` or None.
        weight: of an anchor's loss. The number of ranks over M, not 1 / B: then the ranks' mean is the
            global value for unequal local batches too.
    """

    images: Tensor
    texts: Tensor
    all_images: Tensor
    all_texts: Tensor
    offset: int
    text_ids: Tensor | None
    all_text_ids: Tensor | None
    weight: float

    @classmethod
    def gather(cls, images: Tensor, texts: Tensor, text_ids: Tensor | None) -> Batch:
        """Collect the candidates of all ranks (a collective call).

        Raises:
            ValueError: on every rank, for a global batch of fewer than two pairs.
        """
        sizes = distributed.batch_sizes(images)
        if sum(sizes) < 2:
            raise ValueError(
                "a contrastive loss needs at least 2 pairs in the (global) batch: with a single pair there "
                "are no negatives. Raise the batch size, or drop an incomplete last batch (drop_last=True)."
            )
        all_images, all_texts = images, texts
        if distributed.is_distributed():
            both = distributed.all_gather_with_grad(torch.cat([images, texts], 1), sizes)
            all_images, all_texts = both.tensor_split(2, 1)
        return cls(
            images,
            texts,
            all_images,
            all_texts,
            offset=sum(sizes[: distributed.rank()]),
            text_ids=text_ids,
            all_text_ids=None if text_ids is None else distributed.all_gather_with_grad(text_ids, sizes),
            weight=distributed.world_size() / sum(sizes),
        )

    @property
    def candidates(self) -> int:
        """M, the global number of pairs."""
        return self.all_images.shape[0]

    @property
    def is_whole(self) -> bool:
        """Whether the anchors of one direction are the candidates of the other: a single process."""
        return self.all_images is self.images

    def ignored(self, start: int = 0, stop: int | None = None) -> Tensor | None:
        """Pairs that are no negatives, ``(T, M)`` bool with the positives; None for those alone."""
        if self.text_ids is None or self.all_text_ids is None:
            return None
        return self.text_ids[start:stop, None] == self.all_text_ids[None, :]

    def negatives(self) -> Tensor:
        """How many negatives each of this rank's anchors has, ``(B,)`` long, without an M x M comparison."""
        if self.text_ids is None or self.all_text_ids is None:
            return torch.full((len(self.images),), self.candidates - 1, device=self.images.device)
        _, kind, count = torch.unique(self.all_text_ids, return_inverse=True, return_counts=True)
        own = slice(self.offset, self.offset + len(self.images))
        negatives: Tensor = self.candidates - count[kind[own]]
        return negatives
