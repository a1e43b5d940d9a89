"""SAM and its kin against transformers' own processors, on random weights in the published layout."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import SamImageProcessor, SamModel, SamProcessor

from medzeroseg.imaging import InputError
from medzeroseg.segmenters import MedSamSegmenter, Sam2Segmenter, SamSegmenter, SpatialPrompts
from tests.helpers.fake_segmenters import write_sam2_folder, write_sam_folder

BOXES = torch.tensor([[5.0, 4, 30, 30], [20, 10, 70, 40]])
POINTS = SpatialPrompts(
    points=torch.tensor([[[5.0, 5], [30, 30]], [[20, 10], [0, 0]]]), point_labels=torch.tensor([[1, 0], [1, -1]])
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("segmenters")
    write_sam_folder(root / "sam")
    write_sam2_folder(root / "sam2")
    return root


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(50, 80, generator=torch.Generator().manual_seed(1))


def test_sam_does_what_transformers_own_pipeline_does(folders: Path, image: torch.Tensor) -> None:
    found = SamSegmenter(str(folders / "sam"))(image, SpatialPrompts(boxes=BOXES))
    processor = SamProcessor(SamImageProcessor.from_pretrained(folders / "sam"))
    model = SamModel.from_pretrained(folders / "sam")
    rgb = image.expand(3, -1, -1)
    inputs = processor(images=rgb, input_boxes=[BOXES.tolist()], do_rescale=False, return_tensors="pt")
    with torch.no_grad():
        output = model(**{key: inputs[key] for key in ("pixel_values", "input_boxes")}, multimask_output=False)
    [logits] = processor.post_process_masks(
        output.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"], binarize=False
    )
    torch.testing.assert_close(found.probabilities, logits[:, 0].sigmoid(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.scores, output.iou_scores[0, :, 0])
    assert found.probabilities.std() > 0.003


@pytest.mark.parametrize(("kind", "folder"), [(SamSegmenter, "sam"), (MedSamSegmenter, "sam"), (Sam2Segmenter, "sam2")])
def test_prompts_together_are_prompts_one_by_one(
    kind: type[SamSegmenter], folder: str, folders: Path, image: torch.Tensor
) -> None:
    segmenter = kind(str(folders / folder))
    encoded = segmenter.encode(image)
    together = segmenter.decode(encoded, SpatialPrompts(boxes=BOXES))
    assert together.probabilities.shape == (2, 50, 80)
    for n in range(2):
        alone = segmenter.decode(encoded, SpatialPrompts(boxes=BOXES[n : n + 1]))
        torch.testing.assert_close(alone.probabilities[0], together.probabilities[n], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(together.probabilities[0], together.probabilities[1], atol=1e-4)


@pytest.mark.parametrize(("kind", "folder"), [(SamSegmenter, "sam"), (Sam2Segmenter, "sam2")])
def test_a_padding_point_changes_nothing(
    kind: type[SamSegmenter], folder: str, folders: Path, image: torch.Tensor
) -> None:
    segmenter = kind(str(folders / folder))
    encoded = segmenter.encode(image)
    both = segmenter.decode(encoded, POINTS)
    alone = segmenter.decode(
        encoded, SpatialPrompts(points=torch.tensor([[[20.0, 10]]]), point_labels=torch.tensor([[1]]))
    )
    torch.testing.assert_close(alone.probabilities[0], both.probabilities[1], atol=1e-5, rtol=1e-4)


def test_boxes_and_points_go_together(folders: Path, image: torch.Tensor) -> None:
    segmenter = SamSegmenter(str(folders / "sam"))
    encoded = segmenter.encode(image)
    both = SpatialPrompts(boxes=BOXES, points=POINTS.points, point_labels=POINTS.point_labels)
    found = segmenter.decode(encoded, both).probabilities
    assert not torch.allclose(found, segmenter.decode(encoded, SpatialPrompts(boxes=BOXES)).probabilities, atol=1e-4)


def test_medsam_sees_the_image_stretched_and_scaled_by_its_own_range(folders: Path, image: torch.Tensor) -> None:
    pixels, resized = MedSamSegmenter(str(folders / "sam")).prepare(image / 3)
    assert resized == (64, 64)
    assert pixels.shape == (1, 3, 64, 64)
    assert (float(pixels.min()), float(pixels.max())) == (0, 1)


def test_medsam_refuses_points_alone(folders: Path, image: torch.Tensor) -> None:
    segmenter = MedSamSegmenter(str(folders / "sam"))
    with pytest.raises(ValueError, match="boxes"):
        segmenter(image, POINTS)


@pytest.mark.parametrize(("kind", "folder"), [(SamSegmenter, "sam"), (Sam2Segmenter, "sam2")])
def test_no_prompt_gives_no_mask(kind: type[SamSegmenter], folder: str, folders: Path, image: torch.Tensor) -> None:
    found = kind(str(folders / folder))(image, SpatialPrompts(boxes=torch.zeros(0, 4)))
    assert found.probabilities.shape == (0, 50, 80)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        SamSegmenter(str(tmp_path / "absent"))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json"):
        SamSegmenter(str(tmp_path))


def test_a_folder_without_weights_is_named(folders: Path, tmp_path: Path) -> None:
    shutil.copy(folders / "sam" / "config.json", tmp_path)
    with pytest.raises(InputError, match="cannot be loaded as SamModel"):
        SamSegmenter(str(tmp_path))


def test_a_hub_id_that_was_never_loaded_is_an_input_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match="nobody/nothing"):
        SamSegmenter("nobody/nothing", local_files_only=True)
