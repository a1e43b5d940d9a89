"""A method from saliency to masks on pictures whose answer is known."""

import pytest
import torch

from medzeroseg.models import ImageTextModel
from medzeroseg.postprocessing import LargestComponents, Otsu, PostProcessing, Threshold
from medzeroseg.saliency import PatchTextSimilarity
from medzeroseg.segmenters import RandomWalkerSegmenter
from medzeroseg.zero_shot import CentreBox, Presence, Raw, SmoothNoise, ZeroShotMethod, resolve_overlaps


def scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Raw maps (4, 2, 8, 8), images (4, 64, 64), truth (2, 4, 64, 64): two squares, absent from slice 3."""
    truth = torch.zeros(2, 4, 64, 64, dtype=torch.bool)
    truth[0, :3, 8:24, 8:24] = True
    truth[1, :3, 40:56, 32:56] = True
    images = 0.2 + 0.5 * truth.any(dim=0).float()
    maps = torch.nn.functional.avg_pool2d(truth.transpose(0, 1).float(), 8)
    return maps, images, truth


def dice(first: torch.Tensor, second: torch.Tensor) -> float:
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())


STEPS = PostProcessing([Threshold(0.5), LargestComponents(1)])


def test_masks_follow_the_maps_and_an_empty_slice_stays_empty() -> None:
    maps, images, truth = scene()
    found = ZeroShotMethod(PatchTextSimilarity(), STEPS, calibration=Raw())(maps, images, 2)
    assert found.masks.shape == truth.shape
    assert all(dice(found.masks[n], truth[n]) > 0.8 for n in range(2))
    assert not found.masks[:, 3].any()
    assert found.native_maps(1).shape == (4, 64, 64)


def test_the_segmenter_draws_the_masks_to_the_edges() -> None:
    maps, images, truth = scene()
    plain = ZeroShotMethod(PatchTextSimilarity(), STEPS, calibration=Raw())(maps, images, 2)
    drawn = ZeroShotMethod(PatchTextSimilarity(), STEPS, RandomWalkerSegmenter(), calibration=Raw())(maps, images, 2)
    for n in range(2):
        assert dice(drawn.masks[n], truth[n]) > max(0.97, dice(plain.masks[n], truth[n]))
    assert not drawn.masks[:, 3].any()
    assert drawn.confidence.shape == truth.shape


def test_the_segmenter_may_have_points() -> None:
    maps, images, truth = scene()
    method = ZeroShotMethod(
        PatchTextSimilarity(), STEPS, RandomWalkerSegmenter(), calibration=Raw(), points=1, negative_points=2
    )
    assert dice(method(maps, images, 2).masks[0], truth[0]) > 0.95


@pytest.mark.parametrize("slices", [1, 3, 16])
def test_how_many_slices_go_together_changes_nothing(slices: int) -> None:
    maps, images, _ = scene()
    maps = maps + 0.1 * torch.rand(maps.shape, generator=torch.Generator().manual_seed(0))
    method = ZeroShotMethod(PatchTextSimilarity(), PostProcessing([Otsu()]), slices_at_a_time=slices)
    whole = ZeroShotMethod(PatchTextSimilarity(), PostProcessing([Otsu()]), slices_at_a_time=4)
    assert torch.equal(method(maps, images, 2).masks, whole(maps, images, 2).masks)


def test_confidence_is_the_calibrations_probability_where_it_gives_one() -> None:
    logits = torch.full((1, 2, 4, 4), -9.0)
    logits[0, 0, :2], logits[0, 1, 1:3] = 3.0, -2.0  # the second prompt answers weakly, also where the first is sure
    images = torch.zeros(1, 4, 4)
    found = ZeroShotMethod(PatchTextSimilarity(), PostProcessing([Threshold(0.5)]), calibration=Presence())(
        logits, images, 2
    )
    torch.testing.assert_close(found.confidence.float(), logits.sigmoid().transpose(0, 1), atol=1e-3, rtol=1e-3)
    labels, overlapping = resolve_overlaps(found.masks, found.confidence)
    assert overlapping == 4
    assert labels[0, :, 0].tolist() == [1, 1, 2, 0]
    raw = ZeroShotMethod(PatchTextSimilarity(), STEPS, calibration=Raw())(logits, images, 2)
    torch.testing.assert_close(raw.confidence.float(), raw.maps.transpose(0, 1), atol=1e-3, rtol=1e-3)


def test_prompts_for_comparison_are_not_segmented() -> None:
    maps, images, _ = scene()
    found = ZeroShotMethod(PatchTextSimilarity(), STEPS)(torch.cat([maps, maps.flip(3)], dim=1), images, 2)
    assert found.masks.shape[0] == 2


@pytest.mark.parametrize("settings", [{"points": -1}, {"slices_at_a_time": 0}])
def test_settings_out_of_range_are_named(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        ZeroShotMethod(PatchTextSimilarity(), STEPS, **settings)  # type: ignore[arg-type]


def test_baselines_know_neither_image_nor_text() -> None:
    model = ImageTextModel("small").eval()
    side = model.image_size_px
    images, texts = torch.rand(3, 3, *side), torch.randn(2, model.embedding_dim)
    box = CentreBox()(model, images, texts, keys=["a", "b", "c"]).maps
    assert torch.equal(box[0, 0], box[2, 1])
    assert float((box[0, 0] > 0.5).float().mean()) == 0.25
    noise = SmoothNoise()
    maps = noise(model, images, texts, keys=["a", "b", "c"]).maps
    alone = noise(model, images[1:2] * 0, -texts, keys=["b"]).maps
    torch.testing.assert_close(alone[0], maps[1])
    assert not torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0, 0], maps[0, 1])
    assert noise.layer_used(model) == box_layer() == "-"


def box_layer() -> str:
    return CentreBox().layer_used(ImageTextModel("small"))
