"""One exponential for both directions: when it is taken, and what happens where it would lose digits."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from medzeroseg.losses import CEHNCLoss, DCLLoss, HNNCELoss, InfoNCELoss, shared
from medzeroseg.losses.functional import LogSums
from tests.losses.cases import gradients, pairs

PLACES = [None, 3]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (InfoNCELoss(), True),
        (DCLLoss(), True),
        (CEHNCLoss(2.0, 2.0), True),
        (CEHNCLoss(2.0, 2.5), False),
        (CEHNCLoss(distance="l2"), False),
        (HNNCELoss(0.0, 0.0), True),
        (HNNCELoss(0.25, 0.25), False),
    ],
    ids=str,
)
def test_it_applies_to_equal_denominators_without_further_terms(loss, expected):
    assert shared.applies(*loss.denominators(torch.tensor(10.0))) is expected


def _far_texts(dtype):
    """Images 0-4 and texts 0-4 on one axis, the text 5 opposite to all of them: nothing is near to it."""
    vectors = torch.zeros(6, 3, dtype=torch.float64)
    vectors[:, 0] = 1.0
    vectors[:, 1] = torch.linspace(0.0, 0.3, 6, dtype=torch.float64)
    texts = F.normalize(vectors, dim=1)
    images = texts.clone()
    texts[5] = -texts[2]
    return images.to(dtype), texts.to(dtype)


@pytest.mark.parametrize("tile", PLACES)
def test_where_powers_underflow_both_exponentials_are_taken(tile, monkeypatch):
    answers = []
    asked = shared.are_exact
    monkeypatch.setattr(shared, "are_exact", lambda *a: answers.append(asked(*a)) or answers[-1])
    wanted = gradients(CEHNCLoss(tile_size=tile), *_far_texts(torch.float64), 100.0)
    found = gradients(CEHNCLoss(tile_size=tile), *_far_texts(torch.float32), 100.0)
    assert answers == [True, False]
    for a, b in zip(found, wanted, strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm() + 1e-7


@pytest.mark.parametrize("tile", PLACES)
@pytest.mark.parametrize("duplicates", ["keep", "ignore"])
@pytest.mark.parametrize("kind", [InfoNCELoss, DCLLoss, CEHNCLoss])
def test_the_same_as_with_two_exponentials(kind, duplicates, tile, monkeypatch):
    images, texts = pairs(11)
    ids = torch.arange(11) // 2

    def both_ways():
        loss = kind(duplicate_texts=duplicates, tile_size=tile)
        return *gradients(loss, images, texts, 30.0, ids), loss.diagnostics()["effective_negatives"]

    found = both_ways()
    refused = []
    monkeypatch.setattr(shared, "are_exact", lambda *_: bool(refused.append(1)))
    for a, b in zip(found, both_ways(), strict=True):
        assert_close(a, b, rtol=1e-10, atol=1e-13)
    assert refused


def test_the_bound_of_exactness():
    numbers = torch.finfo(torch.float32)
    enough = numbers.tiny / numbers.eps**2
    assert math.log2(enough) == -80
    squares, one = torch.tensor([1.0, enough, enough / 2]), torch.ones(3)
    assert shared.are_exact(LogSums(one, one, squares[:2]), torch.tensor([1, 1]))
    assert not shared.are_exact(LogSums(one, one, squares), torch.tensor([1, 1, 1]))
    assert shared.are_exact(LogSums(one, one, squares), torch.tensor([1, 1, 0]))  # empty: nothing to lose
