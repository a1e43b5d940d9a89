"""What holds for every loss: invariances, finiteness, clear errors, compilation."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from medzeroseg.losses import CEHNCLoss, ContrastiveLoss, DCLLoss, DHNNCELoss, HNNCELoss, InfoNCELoss
from tests.losses.cases import CASES, NAMES, gradients, pairs

FAMILY = [InfoNCELoss, DCLLoss, HNNCELoss, DHNNCELoss, CEHNCLoss]
PLACES = [None, 2]


@settings(max_examples=25, deadline=None)
@given(size=st.integers(2, 12), seed=st.integers(0, 10**6), case=st.sampled_from(CASES), tile=st.sampled_from(PLACES))
def test_the_order_of_the_pairs_does_not_matter(size, seed, case, tile):
    images, texts = pairs(size, 5, seed)
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    ids = torch.randint(0, size, (size,), generator=torch.Generator().manual_seed(seed))
    for duplicates in ("keep", "ignore"):
        before = gradients(case.make(duplicate_texts=duplicates, tile_size=tile), images, texts, 7.0, ids)
        after = gradients(
            case.make(duplicate_texts=duplicates, tile_size=tile), images[order], texts[order], 7.0, ids[order]
        )
        assert_close(after[0], before[0], rtol=1e-9, atol=1e-11)
        assert_close(after[1], before[1][order], rtol=1e-7, atol=1e-11)
        assert_close(after[2], before[2][order], rtol=1e-7, atol=1e-11)


@settings(max_examples=25, deadline=None)
@given(size=st.integers(2, 12), seed=st.integers(0, 10**6), difficulty=st.floats(0.0, 20.0, width=32))
def test_exchanging_the_modalities_exchanges_the_directions(size, seed, difficulty):
    images, texts = pairs(size, 5, seed)
    assert_close(CEHNCLoss(difficulty, 1.0)(images, texts, 9.0), CEHNCLoss(1.0, difficulty)(texts, images, 9.0))


@settings(max_examples=25, deadline=None)
@given(angles=st.lists(st.floats(0.0, math.pi), min_size=2, max_size=8), difficulty=st.floats(0.0, 8.0, width=32))
def test_squared_and_plain_distance_cross_at_one(angles, difficulty):
    # ||z - s|| >= ||z - s||^2 up to a distance of 1 (60 degrees): there the plain one weighs negatives less, and beyond
    # it more. With all pairs on one side the losses are ordered.
    narrow = torch.tensor(angles, dtype=torch.float64) / 3.01
    z = torch.stack([narrow.cos(), narrow.sin()], 1)
    plain = CEHNCLoss(difficulty, difficulty, distance="l2")(z, z.roll(1, 0), 5.0)
    squared = CEHNCLoss(difficulty, difficulty)(z, z.roll(1, 0), 5.0)
    assert plain <= squared + 1e-9
    s = -z
    plain = CEHNCLoss(difficulty, difficulty, distance="l2")(z, s, 5.0)
    squared = CEHNCLoss(difficulty, difficulty)(z, s, 5.0)
    assert plain >= squared - 1e-9


@pytest.mark.parametrize("tile", PLACES)
@pytest.mark.parametrize("kind", ["random", "aligned", "opposed", "collapsed"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_finite_at_scale_100_in_bfloat16_with_two_pairs(case, kind, tile):
    z = F.normalize(torch.tensor([[1.0, 0.2, 0.0], [-0.3, 1.0, 0.5]]), dim=1)
    s = {"random": z.roll(1, 1), "aligned": z, "opposed": -z, "collapsed": z[[0, 0]]}[kind]
    z = z[[0, 0]] if kind == "collapsed" else z
    z, s = z.bfloat16().requires_grad_(), s.bfloat16().clone().requires_grad_()
    scale = torch.tensor(100.0, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = case.make(tile_size=tile)(z, s, scale)
    assert value.dtype == torch.float32
    value.backward()
    assert torch.isfinite(value)
    for tensor in (z, s, scale):
        assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("tile", PLACES)
@pytest.mark.parametrize("kind", ["spread", "collapsed"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_finite_where_negatives_underflow(case, kind, tile):
    # one negative as near as can be, all others as far as can be: exponents from 0 to -200 and beyond
    z = torch.zeros(6, 3)
    z[:, 0] = 1.0
    z[3:, 0] = -1.0
    s = z if kind == "collapsed" else z.roll(1, 0)
    found = gradients(case.make(tile_size=tile), z, s, 100.0)
    for tensor in found:
        assert torch.isfinite(tensor).all()


def test_autocast_does_not_lower_the_precision():
    images, texts = pairs(20, 64, dtype=torch.float32)
    for tile in (None, 8):
        loss = CEHNCLoss(tile_size=tile)

        def under_autocast(*arguments, loss=loss):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return loss(*arguments)

        inside = gradients(under_autocast, images, texts, 50.0)
        for a, b in zip(inside, gradients(loss, images, texts, 50.0), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("tile", PLACES)
@pytest.mark.parametrize("kind", FAMILY)
def test_anchors_without_any_negative(kind, tile):
    images, texts = pairs(4)
    loss = kind(duplicate_texts="ignore", tile_size=tile)
    value, *others = gradients(loss, images, texts, 10.0, torch.zeros(4, dtype=torch.long))
    assert value == 0.0
    assert all((g == 0).all() for g in others)
    assert loss.diagnostics()["effective_negatives"] == 0.0
    value, by_images, *_ = gradients(loss, images, texts, 10.0, torch.tensor([0, 0, 0, 1]))
    assert torch.isfinite(value)
    assert by_images.abs().sum() > 0
    # alpha x positive alone is left below: log alpha, twice
    weighted = HNNCELoss(alpha=0.5, duplicate_texts="ignore", tile_size=tile)
    assert_close(
        weighted(images, texts, 10.0, torch.zeros(4, dtype=torch.long)).item(), 2 * math.log(0.5), rtol=1e-9, atol=0
    )


@pytest.mark.parametrize("tile", PLACES)
def test_duplicates_push_each_other_away_only_when_kept(tile):
    images, texts = pairs(4)
    texts = texts[[0, 0, 1, 2]]
    ids = torch.tensor([5, 5, 6, 7])
    kept = CEHNCLoss(duplicate_texts="keep", tile_size=tile)(images, texts, 10.0, ids)
    ignored = CEHNCLoss(duplicate_texts="ignore", tile_size=tile)(images, texts, 10.0, ids)
    assert ignored < kept


@pytest.mark.parametrize("kind", FAMILY)
def test_wrong_calls_are_named(kind):
    loss: ContrastiveLoss = kind()
    z = F.normalize(torch.randn(3, 4), dim=1)
    with pytest.raises(ValueError, match="needs at least 2 pairs"):
        loss(z[:1], z[:1], 5.0)
    with pytest.raises(ValueError, match=r"must both be \(M, D\), not \(3, 4\) and \(2, 4\)"):
        loss(z, z[:2], 5.0)
    with pytest.raises(ValueError, match=r"must both be \(M, D\), not \(4,\)"):
        loss(z[0], z[0], 5.0)
    with pytest.raises(ValueError, match=r"text_ids must be \(3,\)"):
        loss(z, z, 5.0, torch.arange(4))
    with pytest.raises(ValueError, match="logit_scale must be positive, not -1"):
        loss(z, z, -1.0)
    with pytest.raises(ValueError, match="logit_scale must hold one value"):
        loss(z, z, torch.ones(2))
    with pytest.raises(ValueError, match="needs text_ids"):
        kind(duplicate_texts="ignore")(z, z, 5.0)
    assert math.isnan(loss.diagnostics()["effective_negatives"])
    assert_close(loss(z, z, torch.tensor([5.0])), loss(z, z, 5.0))


@pytest.mark.parametrize(
    ("kind", "arguments", "named"),
    [
        (InfoNCELoss, {"duplicate_texts": "drop"}, "duplicate_texts"),
        (InfoNCELoss, {"tile_size": 0}, "tile_size"),
        (InfoNCELoss, {"tile_size": "large"}, "tile_size"),
        (HNNCELoss, {"beta_image_to_text": -1.0}, "beta_image_to_text"),
        (HNNCELoss, {"alpha": math.inf}, "alpha"),
        (DHNNCELoss, {"temperature": 0.0}, "temperature"),
        (CEHNCLoss, {"lambda_text_to_image": -0.5}, "lambda_text_to_image"),
        (CEHNCLoss, {"distance": "cosine"}, "distance"),
        (CEHNCLoss, {"hard_fraction": 0.0}, "hard_fraction"),
        (CEHNCLoss, {"hard_count": 0}, "hard_count"),
        (CEHNCLoss, {"hard_count": 3, "hard_fraction": 0.5}, "hard_count excludes"),
        (CEHNCLoss, {"hard_fraction_schedule": "steps"}, "hard_fraction_schedule"),
        (CEHNCLoss, {"hard_fraction_schedule": "linear"}, "schedule_steps"),
        (CEHNCLoss, {"lambda_update": "learned"}, "lambda_update"),
        (CEHNCLoss, {"lambda_update": "adaptive", "lambda_image_to_text": 0.0}, "lambda_range"),
        (CEHNCLoss, {"lambda_range": (0.0, 1.0)}, "lambda_range"),
        (CEHNCLoss, {"target_effective_fraction": 1.5}, "target_effective_fraction"),
        (CEHNCLoss, {"adaptation_rate": 0.0}, "adaptation_rate"),
    ],
)
def test_wrong_arguments_are_named(kind, arguments, named):
    with pytest.raises(ValueError, match=named):
        kind(**arguments)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_dense_compiles_without_a_graph_break(case):
    torch._dynamo.reset()
    images, texts = pairs(7, dtype=torch.float32)
    ids = torch.tensor([0, 1, 2, 0, 3, 1, 4])
    eager, traced = (case.make(duplicate_texts="ignore", tile_size=None) for _ in range(2))
    compiled = torch.compile(traced, fullgraph=True, backend="aot_eager")
    for _ in range(2):  # the second call sees the state that the first one left
        wanted = gradients(eager, images, texts, 10.0, ids)
        for a, b in zip(gradients(compiled, images, texts, 10.0, ids), wanted, strict=True):
            assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert_close(traced.diagnostics(), eager.diagnostics(), rtol=1e-5, atol=1e-6)
