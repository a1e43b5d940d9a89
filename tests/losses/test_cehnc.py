"""CEHNC's state: the adaptive lambdas, the schedule, what is saved; and the loss in other people's loops."""

import copy

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from medzeroseg.losses import CEHNCLoss
from medzeroseg.losses.difficulty import EffectiveNegativesController
from medzeroseg.losses.schedule import HardFractionSchedule
from tests.losses.cases import pairs

SIZE = 64


def stream(steps: int):
    """Batches of random pairs that require gradients."""
    for step in range(steps):
        images, texts = pairs(SIZE, 16, seed=step, dtype=torch.float32)
        yield images.requires_grad_(), texts.requires_grad_()


@pytest.mark.parametrize("tile_size", [None, 20])
@pytest.mark.parametrize("distance", ["l2", "squared_l2"])
@pytest.mark.parametrize("start", [0.05, 30.0])
def test_adaptive_lambdas_bring_the_effective_negatives_to_the_target(start, distance, tile_size):
    loss = CEHNCLoss(
        start,
        start,
        distance=distance,
        lambda_update="adaptive",
        target_effective_fraction=0.3,
        adaptation_rate=0.5,
        tile_size=tile_size,
    )
    found = []
    for images, texts in stream(120):
        loss(images, texts, 2.0).backward()
        found.append(loss.diagnostics()["effective_negatives"].item() / (SIZE - 1))
    assert abs(found[0] - 0.3) > 0.05
    assert sum(found[-20:]) / 20 == pytest.approx(0.3, abs=0.02)


def test_the_directions_adapt_apart():
    loss = CEHNCLoss(lambda_update="adaptive", adaptation_rate=0.5, target_effective_fraction=0.3)
    for images, _ in stream(60):
        # One text is near every image: image anchors have one hard negative, text anchors see nothing unusual.
        texts = F.normalize(torch.randn(SIZE, 16, generator=torch.Generator().manual_seed(1)), dim=1)
        mean = F.normalize(images.detach().mean(0), dim=0)
        texts[0] = mean
        shifted = F.normalize(images + 2 * mean, dim=1)
        loss(shifted, texts, 5.0).backward()
    assert loss.lambda_image_to_text < 0.5 * loss.lambda_text_to_image


def test_the_controller_by_hand_and_its_bounds():
    controller = EffectiveNegativesController(target_fraction=0.25, rate=0.5, lambda_range=(0.5, 3.0))
    difficulty = torch.tensor(1.0)
    # target 16: 1 x (36 / 16)^0.5, then x (4 / 16)^0.5, then down to the bound
    for effective, expected in ((36.0, 1.5), (4.0, 0.75), (1.0, 0.5), (0.0, 0.5), (torch.nan, 0.5), (torch.inf, 0.5)):
        difficulty = controller.updated(difficulty, torch.tensor(effective), negatives=64)
        assert_close(difficulty, torch.tensor(expected))
    for _ in range(5):
        difficulty = controller.updated(difficulty, torch.tensor(64.0), negatives=64)
    assert_close(difficulty, torch.tensor(3.0))


@pytest.mark.parametrize("tile_size", [None, 20])
def test_state_moves_only_in_training_and_after_the_value(tile_size):
    images, texts = next(stream(1))
    options = {"lambda_update": "adaptive", "tile_size": tile_size}
    loss = CEHNCLoss(hard_fraction=0.5, hard_fraction_schedule="linear", schedule_steps=4, **options)
    fixed = CEHNCLoss(tile_size=tile_size)  # at step 0 of the schedule all negatives count
    before = copy.deepcopy(loss.state_dict())
    loss.eval()(images, texts, 10.0)
    with torch.no_grad():
        loss.train()(images, texts, 10.0)
    assert_close(loss.state_dict(), before, rtol=0, atol=0)
    value = loss(images, texts, 10.0)
    assert_close(value, fixed(images, texts, 10.0))
    assert loss.lambda_image_to_text != before["lambda_image_to_text"]
    assert loss.schedule.step == 1
    value.backward()  # the buffers changed between forward and backward
    found = images.grad.clone()
    images.grad = None
    fixed(images, texts, 10.0).backward()
    assert_close(found, images.grad)


def test_fixed_lambdas_stay():
    loss = CEHNCLoss(0.5, 2.0)
    for images, texts in stream(3):
        loss(images, texts, 10.0).backward()
    assert (loss.lambda_image_to_text, loss.lambda_text_to_image) == (0.5, 2.0)


def test_state_is_saved_and_a_resumed_run_goes_on_as_if_never_stopped():
    def make():
        return CEHNCLoss(
            hard_fraction=0.2,
            hard_fraction_schedule="cosine",
            schedule_steps=6,
            lambda_update="adaptive",
            adaptation_rate=0.3,
        )

    whole, first, second = make(), make(), make()
    batches = list(stream(6))
    expected = [whole(*batch, 10.0).item() for batch in batches]
    found = [first(*batch, 10.0).item() for batch in batches[:3]]
    state = first.state_dict()
    assert set(state) == {"lambda_image_to_text", "lambda_text_to_image", "schedule.step"}
    second.load_state_dict(state)
    found += [second(*batch, 10.0).item() for batch in batches[3:]]
    assert found == expected
    assert_close(second.diagnostics(), whole.diagnostics())


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0.2, 0.2, 0.2, 0.2, 0.2, 0.2]),
        ("linear", [1.0, 0.8, 0.6, 0.4, 0.2, 0.2]),
        ("cosine", [1.0, 0.8828427, 0.6, 0.3171573, 0.2, 0.2]),
    ],
)
def test_schedule(kind, expected):
    schedule = HardFractionSchedule(0.2, kind, None if kind == "constant" else 4)
    found = []
    for _ in expected:
        found.append(schedule.fraction())
        schedule.advance()
    assert found == pytest.approx(expected, abs=1e-6)


def test_diagnostics_hold_no_graph():
    loss = CEHNCLoss(hard_count=16, lambda_update="adaptive")
    images, texts = next(stream(1))
    loss(images, texts, torch.tensor(10.0, requires_grad=True)).backward()
    diagnostics = loss.diagnostics()
    assert set(diagnostics) == {"lambda_image_to_text", "lambda_text_to_image", "effective_negatives", "hard_fraction"}
    for value in diagnostics.values():
        assert value.ndim == 0
        assert not value.requires_grad
    assert diagnostics["hard_fraction"] == pytest.approx(16 / 63)
    assert 1.0 <= diagnostics["effective_negatives"] <= 16.0
    logged = diagnostics["lambda_image_to_text"].clone()
    loss(images, texts, 10.0)
    assert_close(diagnostics["lambda_image_to_text"], logged)  # not a view of the buffer


def test_moves_with_to():
    loss = CEHNCLoss(lambda_update="adaptive").to(torch.float64)
    images, texts = (t.detach().double() for t in next(stream(1)))
    assert loss(images.requires_grad_(), texts, 10.0).dtype == torch.float64
    assert loss.lambda_image_to_text != 1.0
