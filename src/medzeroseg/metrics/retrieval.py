"""Cross-modal retrieval between images and texts: the metric of Table 1."""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

DIRECTIONS = ("image_to_text", "text_to_image")


def cross_modal_ranks(
    images: Tensor, texts: Tensor, text_ids: Tensor | None = None, *, tile_size: int = 512
) -> tuple[Tensor, Tensor]:
    """Rank of each query's own partner in the gallery of the other modality, in both directions; 1 = retrieved first.

    Image n belongs to text n. Ties count against the query, so that a model that maps everything to one point scores
    zero instead of 100 %. Items whose text is the same string as the query's (equal `text_ids`) are right answers too:
    they are taken out of the gallery of that query instead of counting as errors.

    The similarities are formed once for both directions, in square tiles: memory grows with N, not with N squared.
    All tiles have one shape, padded, so that equal embeddings have equal similarities wherever they stand. Pairs are
    taken in the order of their text, so that only tiles near the diagonal can hold a text twice.

    Args:
        images: (N, D) normalised embeddings.
        texts: (N, D) normalised embeddings, paired by position.
        text_ids: (N,) integers, equal where the texts are identical; None: all texts count as different.
        tile_size: Longest side of a tile.

    Returns:
        Ranks from image to text and from text to image, each (N,) int64 in [1, N].

    Raises:
        ValueError: The shapes do not agree.
    """
    if images.shape != texts.shape or images.ndim != 2:
        raise ValueError(f"images and texts must both be (N, D), got {tuple(images.shape)}, {tuple(texts.shape)}")
    count, device = len(images), images.device
    if not count:
        return (torch.empty(0, dtype=torch.long, device=device),) * 2
    ids = torch.arange(count, device=device) if text_ids is None else text_ids
    ids, order = torch.sort(ids)
    tiles = -(-count // tile_size)
    side = -(-count // tiles)
    padding = (0, 0, 0, tiles * side - count)
    rows, columns = (nn.functional.pad(x[order], padding).view(tiles, side, -1) for x in (images, texts))
    id_parts = torch.split(ids, side)
    ends = [(int(part[0]), int(part[-1])) for part in id_parts]
    # Who is behind is counted, not who is ahead: NaN compares as false, so a broken embedding loses instead of wins.
    behind = torch.zeros(2, count, dtype=torch.long, device=device)
    behind_rows, behind_columns = (torch.split(part, side) for part in behind)
    own: list[Tensor] = []
    product_of_tile = torch.empty(side, side, dtype=images.dtype, device=device)
    is_behind = torch.empty(side, side, device=device)  # as float: comparing and adding is then several times faster
    for i, j in sorted(product(range(tiles), repeat=2), key=lambda at: at[0] != at[1]):  # the diagonal knows all `own`
        torch.mm(rows[i], columns[j].T, out=product_of_tile)
        similarity = product_of_tile[: len(id_parts[i]), : len(id_parts[j])]
        smaller = is_behind[: len(id_parts[i]), : len(id_parts[j])]
        if i == j:
            own.append(similarity.diagonal().clone())
        if ends[i][0] <= ends[j][1] and ends[j][0] <= ends[i][1]:
            similarity.masked_fill_(id_parts[i].unsqueeze(1) == id_parts[j].unsqueeze(0), torch.inf)
        behind_rows[i].add_(torch.lt(similarity, own[i].unsqueeze(1), out=smaller).sum(1).long())
        behind_columns[j].add_(torch.lt(similarity, own[j].unsqueeze(0), out=smaller).sum(0).long())
    _, codes, recurrences = torch.unique_consecutive(ids, return_inverse=True, return_counts=True)
    ranks = torch.empty_like(behind)
    ranks[:, order] = count + 1 - recurrences[codes] - behind
    return ranks[0], ranks[1]


def retrieval_ranks(
    queries: Tensor, gallery: Tensor, text_ids: Tensor | None = None, *, tile_size: int = 512
) -> Tensor:
    """One direction of `cross_modal_ranks`: query n belongs to gallery item n; (N,) int64."""
    return cross_modal_ranks(queries, gallery, text_ids, tile_size=tile_size)[0]


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
        full = cross_modal_ranks(images, texts, ids)
        result = {"index": order} | {f"full/{name}": ranks for name, ranks in zip(DIRECTIONS, full, strict=True)}
        small = {name: torch.zeros_like(order) for name in DIRECTIONS}
        for members in self._small_galleries(len(order)):
            both = cross_modal_ranks(images[members], texts[members], ids[members])
            for name, ranks in zip(DIRECTIONS, both, strict=True):
                small[name][members] = ranks
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
