"""Values and gradients against the formulas, and hand-computed numbers."""

import math

import pytest
import torch
from open_clip.loss import ClipLoss
from torch.testing import assert_close

from medzeroseg.losses import CEHNCLoss, DCLLoss, DHNNCELoss, HNNCELoss, InfoNCELoss
from tests.losses.cases import CASES, NAMES, Case, gradients, pairs

TILES = [None, 1, 3, 64, "auto"]
IDS = torch.tensor([4, 1, 4, 2, 1, 4, 9])


@pytest.mark.parametrize("tile_size", TILES)
@pytest.mark.parametrize("duplicates", ["keep", "ignore"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_value_and_gradients_are_those_of_the_formula(case: Case, duplicates: str, tile_size):
    images, texts = pairs(7)
    ids = IDS if duplicates == "ignore" else None
    loss = case.make(duplicate_texts=duplicates, tile_size=tile_size)
    found = gradients(loss, images, texts, 5.0, ids)
    wanted = gradients(case.expected, images, texts, 5.0, ids)
    for a, b in zip(found, wanted, strict=True):
        assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tile_size", TILES)
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_effective_negatives_are_those_of_the_formula(case: Case, tile_size):
    images, texts = pairs(7)
    loss = case.make(duplicate_texts="ignore", tile_size=tile_size).eval()
    loss(images, texts, 5.0, IDS)
    _, (first, second) = case.expected(images, texts, 5.0, IDS)
    assert loss.diagnostics()["effective_negatives"].item() == pytest.approx((first + second) / 2, rel=1e-10)


@pytest.mark.parametrize("tile_size", [None, 2])
def test_two_pairs_at_known_angles(tile_size):
    # Images at 0 and 90 degrees, texts at 60 and 90: s_11 = 1/2, s_12 = 0, s_21 = sqrt(3)/2, s_22 = 1.
    half_root_three = 0.8660254037844386
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    texts = torch.tensor([[0.5, half_root_three], [0.0, 1.0]], dtype=torch.float64)
    options = {"tile_size": tile_size}
    # g = 2. Each anchor has one negative, so log(1 + w e^(2 (s_neg - s_pos))) each, and the mean of two a direction.
    # Image anchors: s_neg - s_pos = -1/2 and -0.1339746; text anchors: 0.3660254 and -1.
    info = [math.log1p(math.exp(2 * d)) for d in (-0.5, -0.1339745962, 0.3660254038, -1.0)]
    assert info == pytest.approx([0.3132616875, 0.5681204606, 1.1247154719, 0.1269280110], abs=1e-9)
    assert InfoNCELoss(**options)(images, texts, 2.0).item() == pytest.approx(1.0665128158, abs=1e-9)
    # No positive below: the mean of 2 (s_neg - s_pos).
    assert DCLLoss(**options)(images, texts, 2.0).item() == pytest.approx(-1.2679491924, abs=1e-9)
    # A single negative has the weight 1 whatever beta.
    assert HNNCELoss(0.5, 0.9, **options)(images, texts, 2.0).item() == pytest.approx(1.0665128158, abs=1e-9)
    assert DHNNCELoss(temperature=0.5, **options)(images, texts, 7.0).item() == pytest.approx(-1.2679491924, abs=1e-9)
    # Squared distances of the negatives: image 1 - text 2: 2; image 2 - text 1: 2 - sqrt(3) = 0.2679492, and the same
    # two seen from the texts, exchanged. lambda 1 = 0.5, lambda 2 = 0.25.
    weights = [math.exp(x) for x in (-0.5 * 2, -0.5 * 0.2679491924, -0.25 * 0.2679491924, -0.25 * 2)]
    gaps = (-0.5, -0.1339745962, 0.3660254038, -1.0)
    by_hand = [math.log1p(w * math.exp(2 * d)) for w, d in zip(weights, gaps, strict=True)]
    assert by_hand == pytest.approx([0.1269280110, 0.5122436568, 1.0799777453, 0.0788897343], abs=1e-9)
    found = CEHNCLoss(0.5, 0.25, **options)(images, texts, 2.0).item()
    assert found == pytest.approx(0.8990195737, abs=1e-9)


@pytest.mark.parametrize("tile_size", TILES)
def test_limits(tile_size):
    images, texts = pairs(9, dtype=torch.float32)
    twice_clip = gradients(lambda *a: 2 * ClipLoss()(*a), images, texts, 14.3)
    for loss in (
        InfoNCELoss(tile_size=tile_size),
        HNNCELoss(0.0, 0.0, alpha=1.0, tile_size=tile_size),
        CEHNCLoss(0.0, 0.0, hard_fraction=1.0, tile_size=tile_size),
        CEHNCLoss(0.0, 0.0, distance="l2", hard_count=8, tile_size=tile_size),
    ):
        for a, b in zip(gradients(loss, images, texts, 14.3), twice_clip, strict=True):
            assert_close(a, b, rtol=1e-5, atol=1e-6)
    dcl = gradients(DCLLoss(tile_size=tile_size), images, texts, 14.3)
    dhn = gradients(DHNNCELoss(None, 0.0, 0.0, tile_size=tile_size), images, texts, 14.3)
    for a, b in zip(dhn, dcl, strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tile_size", [None, 2])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_detached_weights_change_the_gradient_as_constants_would(alpha: float, tile_size):
    images, texts = pairs(5)
    ids = torch.tensor([0, 1, 2, 1, 3])
    given = {"alpha": alpha, "duplicate_texts": "ignore"}

    def with_constants(images, texts, scale, ids):
        constant = images.detach(), texts.detach(), scale.detach()
        total = 0.0
        for a, b, fixed_a, fixed_b, beta in (
            (images, texts, constant[0], constant[1], 0.3),
            (texts, images, constant[1], constant[0], 0.6),
        ):
            for n in range(5):
                others = [m for m in range(5) if ids[m] != ids[n]]
                raw = [torch.exp(beta * constant[2] * fixed_a[n] @ fixed_b[m]) for m in others]
                terms = [
                    len(others) * w / sum(raw) * torch.exp(scale * a[n] @ b[m])
                    for w, m in zip(raw, others, strict=True)
                ]
                positive = torch.exp(scale * a[n] @ b[n])
                total = total + torch.log((alpha * positive + sum(terms)) / positive) / 5
        return total

    wanted = gradients(with_constants, images, texts, 4.0, ids)
    detached = HNNCELoss(0.3, 0.6, detach_weights=True, tile_size=tile_size, **given)
    written = HNNCELoss(0.3, 0.6, detach_weights=False, tile_size=tile_size, **given)
    found = gradients(detached, images, texts, 4.0, ids)
    for a, b in zip(found, wanted, strict=True):
        assert_close(a, b, rtol=1e-10, atol=1e-12)
    other = gradients(written, images, texts, 4.0, ids)
    assert_close(other[0], found[0])
    assert (other[1] - found[1]).abs().max() > 1e-3
