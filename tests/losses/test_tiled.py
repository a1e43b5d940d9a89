"""Strips against the dense computation, every way through them."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from medzeroseg.losses import CEHNCLoss, base
from medzeroseg.losses.batch import EXCLUDED
from medzeroseg.losses.selection import HardSelection, hardest, hold_hardest_
from medzeroseg.losses.traversal import Plan, automatic_plan
from tests.losses.cases import CASES, NAMES, gradients, pairs

SIZE = 70
LARGER = [
    *CASES,
    *(
        type(CASES[0])(f"{distance}_{name}", partial(CEHNCLoss, 0.5, 2.0, distance=distance, **options), None)
        for distance in ("l2", "squared_l2")
        for name, options in (
            ("few", {"hard_count": 4}),
            ("many", {"hard_count": 40}),
            ("half", {"hard_fraction": 0.5}),
        )
    ),
]
PLANS = {
    "one strip": Plan(rows=1000),
    "strips": Plan(rows=16),
    "single rows": Plan(rows=1),
    "kept": Plan(rows=16, keep_bytes=10**7),
    "kept, not twice": Plan(rows=9, keep_bytes=SIZE * SIZE * 8),
}


@pytest.fixture
def ids() -> torch.Tensor:
    ids = torch.arange(SIZE)
    ids[::5] = 0
    ids[1:8:2] = 1
    return ids


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("case", LARGER, ids=[case.name for case in LARGER])
def test_strips_equal_dense(case, plan, ids, monkeypatch):
    monkeypatch.setattr(base, "automatic_plan", lambda candidates: plan)
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        images, texts = pairs(SIZE, 16, dtype=dtype)
        for duplicates in ("keep", "ignore"):
            dense = case.make(duplicate_texts=duplicates, tile_size=None)
            tiled = case.make(duplicate_texts=duplicates, tile_size="auto")
            wanted = gradients(dense, images, texts, 20.0, ids)
            for a, b in zip(gradients(tiled, images, texts, 20.0, ids), wanted, strict=True):
                assert (a - b).norm() <= tolerance * b.norm() + tolerance * 1e-2
            assert_close(tiled.diagnostics(), dense.diagnostics(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("options", [{}, {"hard_count": 4}, {"hard_fraction": 0.5}], ids=str)
def test_equals_at_the_boundary_of_selection(options, plan, monkeypatch):
    # Every text three times over: the k-th hardest is one of three equals. Values are the same whichever is kept, and
    # so are the summed gradients of the equals.
    monkeypatch.setattr(base, "automatic_plan", lambda candidates: plan)
    images, texts = pairs(SIZE, 16)
    texts = texts[torch.arange(SIZE) // 3]
    wanted = gradients(CEHNCLoss(tile_size=None, **options), images, texts, 20.0)
    found = gradients(CEHNCLoss(**options), images, texts, 20.0)
    of_equals = [
        torch.zeros(24, 16, dtype=torch.float64).index_add_(0, torch.arange(SIZE) // 3, g[2]) for g in (wanted, found)
    ]
    assert_close(found[0], wanted[0], rtol=1e-10, atol=0)
    assert_close(found[1], wanted[1], rtol=1e-9, atol=1e-12)
    assert_close(of_equals[1], of_equals[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "loss",
    [
        CASES[NAMES.index("hn_nce")].make(tile_size=2),
        CEHNCLoss(0.5, 2.0, tile_size=2),
        CEHNCLoss(0.5, 2.0, distance="l2", tile_size=2),
        CEHNCLoss(hard_fraction=0.5, tile_size=2),
        CEHNCLoss(tile_size=None),
    ],
    ids=str,
)
def test_gradcheck(loss):
    images, texts = pairs(5, 3)
    scale = torch.tensor(3.0, dtype=torch.float64)
    arguments = tuple(t.requires_grad_() for t in (images, texts, scale))
    assert torch.autograd.gradcheck(loss.eval(), arguments)


def test_gradients_are_scaled_by_what_comes_after_and_asked_for_singly():
    images, texts = pairs(9, 4)
    loss = CEHNCLoss(tile_size=4).eval()
    full = gradients(loss, images, texts, 5.0)
    tenfold = gradients(lambda *a: 10 * loss(*a), images, texts, 5.0)
    for a, b in zip(tenfold, full, strict=True):
        assert_close(a, 10 * b)
    raw = images.clone().requires_grad_()
    (alone,) = torch.autograd.grad(loss(torch.nn.functional.normalize(raw, dim=1), texts, 5.0), raw)
    assert_close(alone, full[1])


def test_no_gradients_are_formed_where_none_are_wanted(monkeypatch):
    images, texts = pairs(9, 4)
    formed = []
    monkeypatch.setattr("medzeroseg.losses.strips.gradient_", lambda *a, **k: formed.append(1))
    scale = torch.tensor(5.0, requires_grad=True)
    for options in ({}, {"hard_fraction": 0.5}):
        loss = CEHNCLoss(tile_size=4, **options)
        with torch.no_grad():
            without = loss(images.requires_grad_(), texts, scale)
        assert not without.requires_grad
        loss(images.detach(), texts, 5.0)
    assert not formed


def test_no_square_matrix_is_ever_allocated():
    size = 300
    images, texts = (t.requires_grad_() for t in pairs(size, 8, dtype=torch.float32))
    for options in ({}, {"hard_fraction": 0.3}, {"hard_count": 3}, {"distance": "l2", "lambda_update": "adaptive"}):
        largest = _LargestTensor()
        with largest:
            CEHNCLoss(tile_size=10, **options)(images, texts, 14.0).backward()
        assert largest.elements <= 10 * size, options


class _LargestTensor(torch.utils._python_dispatch.TorchDispatchMode):
    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, list | tuple) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_automatic_plan():
    assert automatic_plan(64) is None
    for candidates in (1000, 8192, 262144):
        plan = automatic_plan(candidates)
        assert plan.rows >= 128
        assert plan.rows * candidates <= max(2**21, 128 * candidates)
    images, texts = pairs(600, 8, dtype=torch.float32)
    assert_close(CEHNCLoss()(images, texts, 14.0), CEHNCLoss(tile_size=None)(images, texts, 14.0))


@pytest.mark.parametrize("kept", [[1, 5, 3, 5], [4, 4, 4, 4], [0, 6, 6, 1]])
def test_hold_hardest_is_a_sort(kept):
    torch.manual_seed(0)
    values = torch.randn(4, 6)
    values[1, [0, 3, 4]] = values[1].max() + 0.5  # equals, some across the boundary
    values[3] = 0.25
    held = values.clone()
    hold_hardest_(held, torch.tensor(kept))
    for row, before, count in zip(held, values, kept, strict=True):
        assert sorted(row[row != EXCLUDED].tolist()) == pytest.approx(sorted(before.tolist())[6 - count :])
        stays = row != EXCLUDED
        assert_close(row[stays], before[stays])
    assert (held[3] != EXCLUDED).nonzero().flatten().tolist() == list(range(kept[3]))  # the first of equals


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("count", [1, 4, 7, 299, 300])
def test_hardest_is_a_sort(count, ties):
    torch.manual_seed(0)
    values = torch.randint(0, 40, (2000, 300)).float() if ties else torch.randn(2000, 300)
    found, columns = hardest(values, count)
    assert_close(found, values.sort(dim=1, descending=True).values[:, :count])
    assert_close(values.gather(1, columns), found)
    assert all(len(set(row)) == count for row in columns[:50].tolist())


def test_counts_of_selection():
    by_fraction, by_count = HardSelection(0.1), HardSelection(count=4)
    for selection, expected in ((by_fraction, [0, 1, 1, 1, 3, 4]), (by_count, [0, 1, 4, 4, 4, 4])):
        counts = [0, 1, 9, 10, 30, 31]
        assert selection.per_anchor(torch.tensor(counts)).tolist() == expected
        assert [selection.most(n) for n in counts[1:]] == expected[1:]
    assert HardSelection().keeps_all()
    assert not by_count.keeps_all()
