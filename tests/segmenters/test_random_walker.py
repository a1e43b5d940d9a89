"""The weight-free segmenter: shapes with edges, seeds, and limits."""

import pytest
import torch

from medzeroseg.segmenters import RandomWalkerSegmenter, SpatialPrompts


def disc(size: int = 64, centre: tuple[int, int] = (30, 34), radius: int = 12) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2


def picture(mask: torch.Tensor, noise: float = 0.02) -> torch.Tensor:
    values = 0.3 + 0.4 * mask.float() + noise * torch.randn(mask.shape, generator=torch.Generator().manual_seed(0))
    return values.clamp(0, 1)


def dice(first: torch.Tensor, second: torch.Tensor) -> float:
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


BOX = torch.tensor([[22.0, 18, 46, 42]])  # x from 22 to 46, y from 18 to 42: the disc's own


def test_a_box_around_a_bright_disc_gives_the_disc() -> None:
    mask = disc()
    found = RandomWalkerSegmenter()(picture(mask), SpatialPrompts(boxes=BOX))
    assert found.probabilities.shape == (1, 64, 64)
    assert dice(found.probabilities[0] > 0.5, mask) > 0.95
    assert 0.5 < float(found.scores[0]) <= 1


def test_a_coarse_mask_is_drawn_to_the_edge() -> None:
    mask = disc()
    coarse = disc(centre=(32, 32), radius=9)
    prompts = SpatialPrompts(boxes=BOX, coarse_masks=coarse[None])
    found = RandomWalkerSegmenter()(picture(mask), prompts).probabilities[0] > 0.5
    assert dice(found, mask) > max(0.95, dice(coarse, mask))


def test_points_alone_separate_two_discs() -> None:
    first, second = disc(centre=(20, 20), radius=9), disc(centre=(44, 44), radius=9)
    prompts = SpatialPrompts(
        points=torch.tensor([[[20.0, 20], [44, 44], [2, 60]]]), point_labels=torch.tensor([[1, 0, 0]])
    )
    found = RandomWalkerSegmenter()(picture(first | second), prompts).probabilities[0] > 0.5
    assert bool(found[20, 20])
    assert not (found & second).any()


def test_nothing_beyond_the_widened_box_is_inside() -> None:
    found = RandomWalkerSegmenter(margin=0)(torch.full((64, 64), 0.5), SpatialPrompts(boxes=BOX)).probabilities[0]
    outside = torch.ones(64, 64, dtype=torch.bool)
    outside[18:43, 22:47] = False
    assert not found[outside].any()


def test_prompts_together_are_prompts_one_by_one() -> None:
    image = picture(disc())
    boxes = torch.cat([BOX, torch.tensor([[0.0, 0, 20, 64]])])
    segmenter = RandomWalkerSegmenter()
    together = segmenter(image, SpatialPrompts(boxes=boxes)).probabilities
    for n in range(2):
        alone = segmenter(image, SpatialPrompts(boxes=boxes[n : n + 1])).probabilities
        assert torch.equal(alone[0], together[n])


def test_a_large_image_is_solved_small_and_comes_back_at_its_size() -> None:
    mask = disc(400, (180, 200), 90)
    box = torch.tensor([[110.0, 90, 290, 270]])
    found = RandomWalkerSegmenter(longest_px=64)(picture(mask), SpatialPrompts(boxes=box)).probabilities
    assert found.shape == (1, 400, 400)
    assert dice(found[0] > 0.5, mask) > 0.93


@pytest.mark.parametrize(
    "box", [[0.0, 0, 64, 64], [-20, -20, 100, 100], [63, 63, 64, 64], [10, 10, 10, 10], [70, 70, 90, 90]]
)
def test_any_box_gives_finite_probabilities(box: list[float]) -> None:
    found = RandomWalkerSegmenter()(picture(disc()), SpatialPrompts(boxes=torch.tensor([box]))).probabilities
    assert torch.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_an_image_of_one_pixel() -> None:
    found = RandomWalkerSegmenter()(torch.zeros(1, 1), SpatialPrompts(boxes=torch.tensor([[0.0, 0, 1, 1]])))
    assert found.probabilities.shape == (1, 1, 1)


def test_no_prompt_gives_no_mask() -> None:
    found = RandomWalkerSegmenter()(torch.zeros(8, 9), SpatialPrompts(boxes=torch.zeros(0, 4)))
    assert found.probabilities.shape == (0, 8, 9)
    assert found.scores.shape == (0,)


@pytest.mark.parametrize("settings", [{"beta": 0.0}, {"margin": -0.1}, {"longest_px": 4}])
def test_settings_out_of_range_are_named(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        RandomWalkerSegmenter(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "boxes or points"),
        ({"boxes": torch.zeros(2, 3)}, r"\(N, 4\)"),
        ({"points": torch.zeros(2, 3, 2)}, "come together"),
        ({"points": torch.zeros(2, 3, 2), "point_labels": torch.zeros(2, 2)}, r"\(N, K\)"),
        ({"boxes": torch.zeros(2, 4), "coarse_masks": torch.zeros(3, 4, 4)}, "differ in number"),
    ],
)
def test_prompts_that_do_not_fit_together_are_refused(parts: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpatialPrompts(**parts)
