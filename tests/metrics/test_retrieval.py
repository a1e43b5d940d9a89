"""Ranks and recall against a slow loop, and the protocol's corner cases."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medzeroseg.metrics import CrossModalRetrieval, cross_modal_ranks, recall_at, retrieval_ranks


def _embeddings(seed: int, n: int, d: int = 6) -> torch.Tensor:
    values = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=1)


def _slow_rank(queries: torch.Tensor, gallery: torch.Tensor, ids: list[int] | None, n: int) -> int:
    own = float(queries[n] @ gallery[n])
    ahead = 0
    for m in range(len(gallery)):
        if m == n or (ids is not None and ids[m] == ids[n]):
            continue
        ahead += float(queries[n] @ gallery[m]) >= own
    return ahead + 1


@given(seed=st.integers(0, 999), n=st.integers(1, 23), tile=st.integers(1, 9), kinds=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_ranks_equal_a_loop_over_pairs(seed: int, n: int, tile: int, kinds: int) -> None:
    queries, gallery = _embeddings(seed, n), _embeddings(seed + 1, n)
    ids = torch.randint(kinds, (n,), generator=torch.Generator().manual_seed(seed))
    assert retrieval_ranks(queries, gallery, tile_size=tile).tolist() == [
        _slow_rank(queries, gallery, None, i) for i in range(n)
    ]
    there, back = cross_modal_ranks(queries, gallery, ids, tile_size=tile)
    assert there.tolist() == [_slow_rank(queries, gallery, ids.tolist(), i) for i in range(n)]
    assert back.tolist() == [_slow_rank(gallery, queries, ids.tolist(), i) for i in range(n)]


def test_a_collapsed_model_scores_zero_not_everything() -> None:
    same = torch.ones(10, 4) / 2
    assert retrieval_ranks(same, same).tolist() == [10] * 10


@pytest.mark.parametrize("count", [600, 1100])
def test_ties_are_ties_across_tiles(count: int) -> None:
    # equal embeddings of awkward length: their similarities must not differ by rounding from tile to tile
    same = torch.nn.functional.normalize(torch.randn(1, 77, generator=torch.Generator().manual_seed(0)), dim=1)
    for ranks in cross_modal_ranks(same.repeat(count, 1), same.repeat(count, 1)):
        assert ranks.tolist() == [count] * count


def test_a_broken_embedding_loses() -> None:
    queries = torch.eye(3)
    queries[1] = torch.nan
    assert retrieval_ranks(queries, torch.eye(3)).tolist() == [1, 3, 1]


def test_identical_texts_are_right_answers() -> None:
    images = torch.eye(4)
    texts = images[[0, 0, 2, 3]]  # pairs 0 and 1 carry the same text
    ids = torch.tensor([7, 7, 8, 9])
    assert retrieval_ranks(texts, images, ids).tolist()[:2] == [1, 3]  # behind the two ties, its twin aside
    assert retrieval_ranks(images, texts, ids)[0] == 1
    assert retrieval_ranks(images, texts)[0] == 2  # counted as different, the tie goes against the query


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N, D\)"):
        retrieval_ranks(torch.eye(3), torch.eye(4))


def test_recall_at_k() -> None:
    ranks = torch.tensor([1, 1, 2, 5])
    assert [float(recall_at(ranks, k)) for k in (1, 2, 4, 5)] == [0.5, 0.75, 0.75, 1.0]


def _metric_over(order: torch.Tensor, batch: int, n: int = 60) -> dict[str, torch.Tensor]:
    images, texts = _embeddings(0, n).float(), _embeddings(0, n).float() + 0.3 * _embeddings(1, n).float()
    texts = torch.nn.functional.normalize(texts, dim=1)
    metric = CrossModalRetrieval(small_gallery=25, seed=3)
    for part in order.split(batch):
        metric.update(images[part], texts[part], part, part)
    return metric.compute()


def test_result_depends_neither_on_order_nor_on_batch_size_nor_on_padding() -> None:
    expected = _metric_over(torch.arange(60), 60)
    shuffled = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    padded = torch.cat([shuffled, shuffled[:5]])  # what a distributed sampler does to even the ranks
    for order, batch in ((shuffled, 7), (padded, 13)):
        result = _metric_over(order, batch)
        for name, value in expected.items():
            torch.testing.assert_close(result[name], value, msg=name)


def test_small_galleries_are_whole_and_of_the_stated_size() -> None:
    result = _metric_over(torch.arange(60), 60)
    ranked = result["small/image_to_text"] > 0
    assert int(ranked.sum()) == 50  # two galleries of 25; the last ten pairs are left out
    assert int(result["small/image_to_text"].max()) <= 25


def test_a_test_set_smaller_than_the_small_gallery_is_one_gallery() -> None:
    metric = CrossModalRetrieval(small_gallery=50)
    metric.update(torch.eye(4), torch.eye(4), torch.arange(4), torch.arange(4))
    result = metric.compute()
    assert result["small/text_to_image"].tolist() == [1, 1, 1, 1]
