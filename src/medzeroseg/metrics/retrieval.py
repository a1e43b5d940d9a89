"""Cross-modal retrieval between images and texts: the metric of Table 1."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

DIRECTIONS = ("image_to_text", "text_to_image")


def retrieval_ranks(
    queries: Tensor, gallery: Tensor, text_ids: Tensor | None = None, *, chunk_size: int = 1024
) -> Tensor:
    """Rank of each query's own partner among the gallery, 1 = retrieved first.

    Query n belongs to gallery item n. Ties count against the query, so that a model that maps everything to one
    point scores zero instead of 100 %. Items whose text is the same string as the query's (equal `text_ids`) are
    right answers too: they are taken out of the gallery of that query instead of counting as errors.
    The similarity matrix is formed in chunks of rows: memory grows with N, not with N squared.

    Args:
        queries: (N, D) normalised embeddings.
        gallery: (N, D) normalised embeddings of the other modality, paired by position.
        text_ids: (N,) integers, equal where the texts are identical; None: all texts count as different.
        chunk_size: Rows of the similarity matrix held at a time.

    Returns:
        (N,) int64 ranks in [1, N].

    Raises:
        ValueError: The shapes do not agree.
    """
    if queries.shape != gallery.shape or queries.ndim != 2:
        raise ValueError(f"queries and gallery must both be (N, D), got {tuple(queries.shape)}, {tuple(gallery.shape)}")
    ranks = []
    for start in range(0, len(queries), chunk_size):
        rows = slice(start, start + chunk_size)
        similarity = queries[rows] @ gallery.T
        own = similarity.diagonal(offset=start).unsqueeze(1)
        # NaN compares as false everywhere: `not <` makes a broken embedding lose instead of win.
        ahead = ~(similarity < own)
        if text_ids is not None:
            ahead &= text_ids[rows].unsqueeze(1) != text_ids.unsqueeze(0)
        else:
            ahead.diagonal(offset=start).fill_(False)
        ranks.append(ahead.sum(dim=1) + 1)
    return torch.cat(ranks) if ranks else torch.empty(0, dtype=torch.long, device=queries.device)


def recall_at(ranks: Tensor, k: int) -> Tensor:
    """Share of queries whose partner is among the first `k`, in [0, 1]; (N,) ranks -> scalar."""
    return (ranks <= k).float().mean()


class CrossModalRetrieval(Metric):
    """Collects paired embeddings and ranks them at the end, in the full gallery and in small shuffled batches.

    The publication reports about 84 % top-1, which is only plausible in small galleries; its peers rank inside
    shuffled batches of 50. Both are given here, and every value states its gallery. The small galleries are a
    seeded permutation of the cases in dataset order, so they depend neither on the order of arrival nor on the
    number of ranks; a last gallery smaller than `small_gallery` is left out, unless it is the only one.

    Args:
        small_gallery: Size of the small galleries (the peers': 50).
        seed: Seed of the permutation that makes the small galleries.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    image_embeddings: list[Tensor]
    text_embeddings: list[Tensor]
    text_ids: list[Tensor]
    indices: list[Tensor]

    def __init__(self, small_gallery: int = 50, seed: int = 0) -> None:
        super().__init__()
        if small_gallery < 2:
            raise ValueError(f"small_gallery must be at least 2, got {small_gallery}")
        self.small_gallery = small_gallery
        self.seed = seed
        for name in ("image_embeddings", "text_embeddings", "text_ids", "indices"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, image_embeddings: Tensor, text_embeddings: Tensor, text_ids: Tensor, indices: Tensor) -> None:
        """Add a batch of pairs.

        Args:
            image_embeddings: (B, D) normalised.
            text_embeddings: (B, D) normalised.
            text_ids: (B,) integers, equal where texts are identical.
            indices: (B,) positions in the dataset; a position seen twice (a padded distributed sampler) counts once.
        """
        self.image_embeddings.append(image_embeddings.detach().float())
        self.text_embeddings.append(text_embeddings.detach().float())
        self.text_ids.append(text_ids)
        self.indices.append(indices)

    def compute(self) -> dict[str, Tensor]:
        """Rank every pair.

        Returns:
            `index` (N,): dataset positions, ascending; `full/<direction>` (N,): ranks in the full gallery;
            `small/<direction>` (N,): ranks in the small gallery, 0 for the pairs of a left-out last gallery.
        """
        order, first = _unique_sorted(dim_zero_cat(self.indices))
        images, texts = dim_zero_cat(self.image_embeddings)[first], dim_zero_cat(self.text_embeddings)[first]
        ids = dim_zero_cat(self.text_ids)[first]
        result = {
            "index": order,
            "full/image_to_text": retrieval_ranks(images, texts, ids),
            "full/text_to_image": retrieval_ranks(texts, images, ids),
        }
        small = {name: torch.zeros_like(order) for name in DIRECTIONS}
        for members in self._small_galleries(len(order)):
            part = images[members], texts[members], ids[members]
            small["image_to_text"][members] = retrieval_ranks(part[0], part[1], part[2])
            small["text_to_image"][members] = retrieval_ranks(part[1], part[0], part[2])
        return result | {f"small/{name}": ranks for name, ranks in small.items()}

    def _small_galleries(self, count: int) -> Sequence[Tensor]:
        permutation = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed))
        galleries = torch.split(permutation.to(self.device), self.small_gallery)
        whole = [gallery for gallery in galleries if len(gallery) == self.small_gallery]
        return whole or galleries


def _unique_sorted(indices: Tensor) -> tuple[Tensor, Tensor]:
    """Sorted unique values of (N,) indices, and where each is seen first."""
    order, inverse = torch.unique(indices, return_inverse=True)
    positions = torch.arange(len(indices), device=indices.device)
    first = torch.full_like(order, len(indices)).scatter_reduce(0, inverse, positions, "amin")
    return order, first
