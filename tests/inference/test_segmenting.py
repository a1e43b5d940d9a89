from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from medzeroseg.errors import ConfigurationError
from medzeroseg.imaging import Geometry, Volume
from medzeroseg.inference.request import SegmentationRequest
from medzeroseg.inference.running import Run
from medzeroseg.inference.segmenting import Segmenter
from medzeroseg.models import ImageTextModel
from medzeroseg.postprocessing import PostProcessing, Threshold
from medzeroseg.saliency import DPFEMSimilarity, PatchTextSimilarity, SaliencyMethod
from medzeroseg.segmenters import RandomWalkerSegmenter
from medzeroseg.zero_shot import PresenceOfPrompts, Raw, ZeroShotMethod
from tests.helpers.fake_inference import blobs

PATH = Path("scan.nii")
Prepare = Callable[..., Run]


def scan(depth: int = 7, height: int = 20, width: int = 24) -> Volume:
    return Volume(blobs(depth, height, width), Geometry(np.diag([3.0, -0.5, -0.8, 1.0])[[2, 1, 0, 3]]))


class Painted(SaliencyMethod):
    """Prompt n lights up what it is told to."""

    title = "painted"

    def __init__(self, *maps: list[list[float]]) -> None:
        super().__init__(None)
        self.maps = torch.tensor(maps)

    def layer_used(self, model: ImageTextModel) -> str:
        return "paint"

    def _maps(self, model: ImageTextModel, images: Tensor, texts: Tensor, keys: object) -> tuple[Tensor, Tensor]:
        scores = torch.linspace(0.1, 0.2, len(self.maps)).expand(len(images), -1)
        return self.maps.expand(len(images), *self.maps.shape), scores


def painted(texts: tuple[str, ...], *maps: list[list[float]], **options: object) -> Segmenter:
    method = ZeroShotMethod(Painted(*maps), PostProcessing([Threshold(0.5)]), calibration=Raw())
    return Segmenter(ImageTextModel("small"), method, SegmentationRequest(texts, **options))


LEFT, RIGHT, NOWHERE = [[1.0, 0.0]] * 2, [[0.0, 1.0]] * 2, [[0.3, 0.3]] * 2


def test_labels_follow_the_texts_and_nothing_found_is_an_answer():
    result = painted(("liver", "spleen", "dragon"), LEFT, RIGHT, NOWHERE)(scan(), PATH)
    assert set(np.unique(result.view_labels[..., :10])) == {1}
    assert set(np.unique(result.view_labels[..., -10:])) == {2}
    assert [label.found for label in result.labels] == [True, True, False]
    dragon = result.labels[2]
    assert (dragon.voxels, dragon.confidence, dragon.largest_slice) == (0, 0, None)
    assert "nothing" in dragon.why_not
    assert [round(label.score, 3) for label in result.labels] == [0.1, 0.15, 0.2]


def test_sizes_agree_with_the_geometry():
    volume = scan()
    liver = painted(("liver",), LEFT)(volume, PATH).labels[0]
    voxel_ml = 3.0 * 0.5 * 0.8 / 1000
    assert liver.volume_ml == pytest.approx(liver.voxels * voxel_ml)
    assert liver.area_mm2 is None
    flat = painted(("liver",), LEFT)(Volume(volume.array[:1], volume.geometry), PATH).labels[0]
    assert flat.area_mm2 == pytest.approx(flat.voxels * 0.5 * 0.8)
    assert flat.volume_ml is None
    unknown = painted(("liver",), LEFT)(Volume(volume.array), PATH).labels[0]
    assert (unknown.area_mm2, unknown.volume_ml) == (None, None)
    assert unknown.voxels == liver.voxels


def test_overlaps_go_to_the_more_confident_and_are_counted():
    result = painted(("liver", "spleen"), LEFT, LEFT)(scan(), PATH)
    first, second = result.labels
    assert first.found
    assert not second.found
    assert "other labels" in second.why_not
    assert result.overlap_voxels == first.overlap_voxels == second.overlap_voxels == first.voxels
    assert second.claimed_voxels == first.voxels


def test_in_overlaps_confidence_is_relative_to_the_labels_highest():
    class Probability(Raw):
        gives_probabilities = True

    # The cavity is nowhere as probable as the muscle, whose mask covers it.
    muscle, cavity = [[0.9, 0.7, 0.1]] * 2, [[0.1, 0.5, 0.1]] * 2
    method = ZeroShotMethod(Painted(muscle, cavity), PostProcessing([Threshold(0.5)]), calibration=Probability())
    segmenter = Segmenter(ImageTextModel("small"), method, SegmentationRequest(("myocardium", "left ventricle")))
    result = segmenter(scan(), PATH)
    assert set(np.unique(result.view_labels[..., 12])) == {2}
    assert set(np.unique(result.view_labels[..., 0])) == {1}
    assert result.overlap_voxels > 0


def test_the_least_score_empties_a_label_before_overlaps():
    result = painted(("liver", "spleen"), LEFT, LEFT, min_score=0.15)(scan(), PATH)
    assert [label.found for label in result.labels] == [False, True]
    assert "0.100 is under the least score 0.15" in result.labels[0].why_not
    assert result.overlap_voxels == 0


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_the_batch_size_changes_nothing(prepared: Prepare, batch_size: int):
    volume = scan()
    expected = prepared("liver", "spleen", batch_size=7).segmenter(volume, PATH)
    result = prepared("liver", "spleen", batch_size=batch_size).segmenter(volume, PATH)
    assert len(result.found) > 0
    assert np.array_equal(result.label_map, expected.label_map)
    assert np.allclose(result.maps, expected.maps, atol=1e-5)


def test_the_label_map_comes_back_in_the_files_axes(prepared: Prepare):
    volume = scan()
    turned = Volume(volume.array.transpose(2, 0, 1)[:, ::-1], None)
    affine = np.zeros((4, 4))
    affine[:, 0], affine[:, 1], affine[:, 2] = (volume.geometry.affine_ras_mm[:, n] for n in (2, 0, 1))
    affine[:, 3] = volume.geometry.affine_ras_mm[:, 3]
    affine[:3, 3] += affine[:3, 1] * (volume.shape[0] - 1)
    affine[:3, 1] *= -1
    turned = Volume(turned.array, Geometry(affine))
    run = prepared("liver")
    expected = run.segmenter(volume, PATH)
    result = run.segmenter(turned, PATH)
    assert expected.found
    assert result.label_map.shape == turned.shape
    assert np.array_equal(result.label_map, expected.label_map.transpose(2, 0, 1)[:, ::-1])
    assert np.allclose(result.saliency(1), expected.saliency(1).transpose(2, 0, 1)[:, ::-1], atol=1e-6)


def test_large_slices_are_segmented_small_and_their_masks_enlarged():
    volume = Volume(blobs(1, 100, 200), window=(0.0, 255.0))
    small = painted(("liver",), LEFT, longest_px=64)(volume, PATH)
    whole = painted(("liver",), LEFT)(volume, PATH)
    assert small.label_map.shape == (1, 100, 200)
    assert np.mean(small.label_map == whole.label_map) > 0.98


class CountingSegmenter(RandomWalkerSegmenter):
    encoded = 0

    def encode(self, image: Tensor) -> object:
        self.encoded += 1
        return super().encode(image)


def test_one_pass_and_one_encoding_serve_all_labels(monkeypatch: pytest.MonkeyPatch):
    segmenter = CountingSegmenter()
    method = ZeroShotMethod(PatchTextSimilarity(), segmenter=segmenter)
    model = ImageTextModel("small")
    passes, texts = [], []
    for name, calls in (("encode_image_and_patches", passes), ("encode_text", texts)):
        original = getattr(model, name)
        monkeypatch.setattr(
            model, name, lambda x, original=original, calls=calls: (calls.append(len(x)), original(x))[1]
        )
    segment = Segmenter(model, method, SegmentationRequest(("liver", "spleen", "aorta"), batch_size=2))
    seen = []
    for _ in range(2):
        segment(scan(depth=3), PATH, progress=lambda done, total: seen.append((done, total)))
    assert segmenter.encoded == 2 * 3
    assert passes == [2, 1] * 2
    assert len(texts) == 1
    assert seen == [(2, 3), (3, 3)] * 2


def test_a_colour_picture_is_shown_in_colour(monkeypatch: pytest.MonkeyPatch):
    rgb = np.zeros((1, 16, 16, 3), np.uint8)
    rgb[..., 0] = 255
    segment = painted(("liver",), LEFT)
    pictures = []
    monkeypatch.setattr(segment, "_transform", lambda picture: (pictures.append(picture), torch.zeros(3, 128, 128))[1])
    segment(Volume(np.full((1, 16, 16), 76, np.uint8), rgb=rgb, window=(0.0, 255.0)), PATH)
    assert pictures[0].getpixel((5, 5)) == (255, 0, 0)


def test_a_prompt_over_the_tokenizers_length_is_told(prepared: Prepare):
    text = "liver " * 150 + "dragon"
    notes = prepared(text, "spleen").segmenter(scan(depth=1), PATH).notes
    assert len(notes) == 1
    assert "3 of its 3 sentences are longer than the model's 112 tokens" in notes[0]
    assert notes[0].endswith("dragon'")


def test_synonyms_are_found_whatever_the_capitals(prepared: Prepare):
    assert "both lungs" in prepared("Lungs").segmenter.prompts("any").prompts[0].texts


def test_structures_for_comparison_are_not_asked_twice(prepared: Prepare):
    assert len(prepared("Heart").segmenter.prompts("any").embeddings) == 2
    assert len(prepared("liver").segmenter.prompts("any").embeddings) == 3


def test_a_method_that_does_not_fit_the_model_is_refused():
    with pytest.raises(ConfigurationError, match="method: model has no DPFEM"):
        Segmenter(ImageTextModel("small"), ZeroShotMethod(DPFEMSimilarity()), SegmentationRequest(("liver",)))


@pytest.mark.parametrize(("modality", "brightest"), [("chest X-ray", 0), ("cardiac MRI", 1)])
def test_in_an_xray_prompts_may_share_a_place(modality: str, brightest: int):
    shared_and_alone, shared = [[3.0, 2.0]] * 2, [[6.0, -9.0]] * 2
    calibration = PresenceOfPrompts(in_projections=False)
    method = ZeroShotMethod(Painted(shared_and_alone, shared), calibration=calibration)
    request = SegmentationRequest(("lungs", "infection"), modality=modality)
    result = Segmenter(ImageTextModel("small"), method, request, compare_with=())(scan(depth=1), PATH)
    assert result.maps[0, 0, 0].argmax() == brightest
