"""Pseudo-masks on disk: resumed, told apart by what made them, and drawn without looking at any reference."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medzeroseg.models import ImageTextModel
from medzeroseg.postprocessing import Otsu, PostProcessing
from medzeroseg.saliency import GradCAM, PatchTextSimilarity, SaliencyMethod
from medzeroseg.weak_supervision import ZeroShotTeacher, teacher
from medzeroseg.weak_supervision.identity import describe, weights_digest
from medzeroseg.zero_shot import ZeroShotMethod
from tests.helpers.fake_segmentation import ArraysDataModule, write_cases

NAMES = {"train": ["p1_a", "p2_a", "p3_a"], "val": ["p4_a"], "test": ["p5_a"]}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cases(tmp_path_factory.mktemp("data"), NAMES, slices=4)


@pytest.fixture
def data(root: Path) -> ArraysDataModule:
    return ArraysDataModule(root)


def make_teacher(
    folder: Path, seed: int = 0, saliency: SaliencyMethod | None = None, **options: Any
) -> ZeroShotTeacher:
    torch.manual_seed(seed)
    method = ZeroShotMethod(saliency or PatchTextSimilarity(), PostProcessing([Otsu()]))
    return ZeroShotTeacher(ImageTextModel("small"), method, folder=str(folder), slices_at_a_time=2, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_training_and_validation_case_gets_a_mask_of_its_size(data: ArraysDataModule, tmp_path: Path) -> None:
    folder = make_teacher(tmp_path).label(data, CPU)
    files = data.pseudo_mask_files("train", folder) | data.pseudo_mask_files("val", folder)
    assert set(files) == {"p1_a", "p2_a", "p3_a", "p4_a"}
    assert {path.name for path in folder.iterdir()} == {file.name for file in files.values()} | {"provenance.json"}
    masks = [np.load(file, allow_pickle=False) for file in files.values()]
    assert all(mask.shape == (4, 6, 5) and mask.dtype == np.uint8 for mask in masks)
    assert set(np.unique(masks).tolist()) <= {0, 1, 2}
    assert any(mask.any() for mask in masks)
    data.use_pseudo_masks(folder)


def test_interrupted_and_resumed_gives_the_same_files(
    data: ArraysDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = make_teacher(tmp_path / "whole").label(data, CPU)
    original = ArraysDataModule.images_of_cases

    def stops(self: ArraysDataModule, *arguments: Any) -> Iterator[Any]:
        for count, batch in enumerate(original(self, *arguments)):
            if count == 3:  # in the middle of the second case
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(ArraysDataModule, "images_of_cases", stops)
        with pytest.raises(KeyboardInterrupt):
            make_teacher(tmp_path / "broken").label(data, CPU)
    [broken] = (tmp_path / "broken").iterdir()
    first = contents(broken)
    assert len(first) == 2  # provenance, one case; nothing half-written
    made = {name: (broken / name).stat().st_mtime_ns for name in first}
    assert make_teacher(tmp_path / "broken").label(data, CPU) == broken
    assert {name: (broken / name).stat().st_mtime_ns for name in first} == made
    assert contents(broken) == contents(whole)
    assert broken.name == whole.name


def test_a_finished_folder_is_left_alone(
    data: ArraysDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_teacher(tmp_path).label(data, CPU)
    monkeypatch.setattr(ArraysDataModule, "images_of_cases", lambda *_: pytest.fail("an image was read"))
    assert make_teacher(tmp_path).label(data, CPU) == folder


def test_whatever_makes_other_masks_has_another_folder(data: ArraysDataModule, root: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "best.ckpt"
    torch.manual_seed(5)
    state = {f"model.{name}": value for name, value in ImageTextModel("small").state_dict().items()}
    torch.save({"state_dict": state}, checkpoint)
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("templates: {any: ['{} in an image']}\n", encoding="utf-8")
    projection = tmp_path / "projection.yaml"
    projection.write_text("templates: {any: ['{} in an image']}\nprojections: [toy MRI]\n", encoding="utf-8")
    folders = [
        make_teacher(tmp_path).folder(data),
        make_teacher(tmp_path, seed=1).folder(data),
        make_teacher(tmp_path, checkpoint=str(checkpoint)).folder(data),
        make_teacher(tmp_path, saliency=GradCAM()).folder(data),
        make_teacher(tmp_path, saliency=GradCAM(relu=False)).folder(data),
        make_teacher(tmp_path, prompts=str(prompts)).folder(data),
        make_teacher(tmp_path, prompts=str(projection)).folder(data),
        make_teacher(tmp_path, compare_with=["heart"]).folder(data),
        make_teacher(tmp_path, uncertain=(0.4, 0.6)).folder(data),
        make_teacher(tmp_path, minimum_score=0.1).folder(data),
        make_teacher(tmp_path).folder(ArraysDataModule(root, image_size_px=16)),
    ]
    assert len(set(folders)) == len(folders)
    assert make_teacher(tmp_path).folder(data) == folders[0]
    moved = checkpoint.rename(tmp_path / "moved.ckpt")  # the same weights elsewhere are the same teacher
    assert make_teacher(tmp_path, checkpoint=str(moved)).folder(data) == folders[2]


def test_a_prompt_that_is_cut_is_told_once(
    data: ArraysDataModule, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_teacher(tmp_path, compare_with=["liver " * 500]).label(data, CPU)
    [message] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "were cut" in message


def test_masks_of_the_version_before_are_not_taken_up(
    data: ArraysDataModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 1: random walker by conjugate gradients, overlaps by stretched maps
    now = make_teacher(tmp_path).folder(data)
    monkeypatch.setattr(teacher, "VERSION", 1)
    assert make_teacher(tmp_path).folder(data) != now


def test_provenance_says_what_made_the_masks(data: ArraysDataModule, tmp_path: Path) -> None:
    checkpoint = tmp_path / "best.ckpt"
    state = {f"model.{name}": value for name, value in ImageTextModel("small").state_dict().items()}
    torch.save({"state_dict": state}, checkpoint)
    teacher = make_teacher(tmp_path / "masks", checkpoint=str(checkpoint), compare_with=["heart"])
    folder = teacher.label(data, CPU)
    written = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert written["checkpoint"]["file"] == "best.ckpt"
    assert len(written["checkpoint"]["sha256"]) == len(written["model"]["weights_sha256"]) == 64
    assert set(written["prompts"]) == {"ball", "box", "heart"}
    assert all(written["prompts"].values())
    assert written["method"]["saliency"]["class"] == "medzeroseg.saliency.patch_text_similarity.PatchTextSimilarity"
    assert written["method"]["segmenter"] is None
    assert written["method"]["postprocessing"]["steps"][0]["class"].endswith("Otsu")
    assert written["structures"] == {"ball": [1], "box": [2]}
    assert written["reveals_ground_truth"] is False
    assert written["git_revision"]
    assert str(tmp_path) not in json.dumps(written)


def test_no_reference_is_looked_at(tmp_path: Path) -> None:
    folders = []
    for label in (1, 2):
        root = write_cases(tmp_path / f"data{label}", NAMES, label=label)
        data = ArraysDataModule(root)
        folder = make_teacher(tmp_path / f"masks{label}").label(data, CPU)
        files = data.pseudo_mask_files("train", folder)
        folders.append({case: file.read_bytes() for case, file in files.items()})
    assert folders[0] == folders[1]


def test_settings_are_plain_values_and_weights_are_told_apart() -> None:
    method = ZeroShotMethod(GradCAM("clip.visual.trunk.stages.0"))
    assert json.loads(json.dumps(describe(method))) == describe(method)
    assert describe(method)["saliency"]["layer"] == "clip.visual.trunk.stages.0"
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert weights_digest(one) != weights_digest(other)
    other.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(other)
    assert weights_digest(one.bfloat16()) != weights_digest(other)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"uncertain": (0.6, 0.4)}, "uncertain"), ({"minimum_score": 2.0}, "minimum_score")],
)
def test_bad_arguments_are_named(tmp_path: Path, options: dict[str, Any], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        make_teacher(tmp_path, **options)
