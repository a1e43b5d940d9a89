"""Labelled cases that would break training or spoil its scores: named, or left out and said."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from data_modules.cases import CaseIndex
from data_modules.pairs import SquareResize
from data_modules.slices import SliceCollate, SlicePreparation
from data_modules.splits import Split
from medzeroseg.imaging import InputError
from tests.helpers.fake_segmentation import (
    ArraysDataModule,
    PicturesDataModule,
    batches,
    rows,
    write_case,
    write_cases,
)
from tests.helpers.loading import error_of

NAMES = {"train": ["p1_a", "p1_b", "p2_a"], "val": ["p3_a"], "test": ["p4_a", "p5_a"]}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_cases(tmp_path, NAMES)


def test_a_random_transform_is_refused(root: Path):
    with pytest.raises(ValueError, match="train_transform is random"):
        ArraysDataModule(root).attach_model(lambda picture: torch.rand(3, 4, 4), SquareResize(4))


def test_a_case_without_a_reference_is_named_or_left_out_or_predicted(root: Path):
    write_case(root, "test", "p6_unlabelled")
    with pytest.raises(InputError, match=r"1 case\(s\) of the test split.*p6_unlabelled.*missing_reference=skip"):
        ArraysDataModule(root).setup("test")
    dm = ArraysDataModule(root, missing_reference="skip")
    dm.setup("test")
    assert [case.case_id for case in dm.cases("test")] == ["p4_a", "p5_a"]
    assert dm.skipped["test"] == {"cases without a reference": 1}
    dm.setup("predict")
    assert [case.case_id for case in dm.cases("predict")] == ["p4_a", "p5_a", "p6_unlabelled"]
    last = rows(batches(dm, "predict"), "case_id", "native_mask", "mask")[-1]
    assert last[:2] == ("p6_unlabelled", None)
    assert (last[2] == -1).all()


@pytest.mark.parametrize("split", ["train", "val"])
def test_training_without_a_reference_is_an_error(root: Path, split: str):
    write_case(root, split, "p9_unlabelled")
    with pytest.raises(InputError, match=f"{split} split.*p9_unlabelled"):
        ArraysDataModule(root).setup("fit")


def test_a_patient_in_two_splits_is_an_error(root: Path):
    write_case(root, "val", "p1_c")
    with pytest.raises(InputError, match=r"patient p1 \(case p1_c\) is in the train and in the val split"):
        ArraysDataModule(root).setup("fit")


def test_a_patient_of_another_stage_is_seen_too(root: Path):
    write_case(root, "test", "p2_b")
    dm = ArraysDataModule(root)
    dm.setup("fit")
    with pytest.raises(InputError, match="patient p2"):
        dm.setup("test")


def test_two_cases_with_one_id_are_an_error(root: Path):
    class Twice(ArraysDataModule):
        def index_split(self, split: Split) -> CaseIndex:
            index = super().index_split(split)
            return CaseIndex([*index.cases, index.cases[0]])

    with pytest.raises(InputError, match=r"several cases of the test split.*p4_a"):
        Twice(root).setup("test")


def test_an_empty_split_says_what_was_left_out(tmp_path: Path):
    with pytest.raises(InputError, match="Arrays: no usable case in the test split"):
        ArraysDataModule(tmp_path).setup("test")
    write_case(tmp_path, "test", "p1_unlabelled")
    with pytest.raises(InputError, match="left out: 1 cases without a reference"):
        ArraysDataModule(tmp_path, missing_reference="skip").setup("test")


@pytest.mark.parametrize("kind", [ArraysDataModule, PicturesDataModule])
def test_labels_outside_the_map_name_file_and_value(tmp_path: Path, kind: type[ArraysDataModule]):
    write_case(tmp_path, "test", "p1_a", label=9, slices=1 if kind is PicturesDataModule else 3)
    path = tmp_path / "test" / "p1_a.npz"
    with np.load(path) as arrays:
        image = arrays["image"]
    np.savez(path, image=image, label=np.full(image.shape, 9, np.uint8))
    dm = kind(tmp_path)
    message = r"case p1_a: .*p1_a\.npz: the label map holds 9, which the dataset does not have.*1 ball, 2 box"
    if kind is ArraysDataModule:
        with pytest.raises(InputError, match=message):
            dm.setup("test")
    else:
        dm.setup("test")
        with pytest.raises(InputError, match=message):
            batches(dm, "test")


@pytest.mark.parametrize("kind", [ArraysDataModule, PicturesDataModule])
def test_a_damaged_case_is_named_or_left_out(
    tmp_path: Path, kind: type[ArraysDataModule], caplog: pytest.LogCaptureFixture
):
    write_cases(tmp_path, {"test": ["p1_a", "p2_a", "p3_a"]}, slices=1)
    path = tmp_path / "test" / "p2_a.npz"
    path.write_bytes(path.read_bytes()[:90])
    message = r"case p2_a: .*p2_a\.npz: cannot be read as a NumPy archive"
    dm = kind(tmp_path)
    if kind is PicturesDataModule:
        dm.setup("test")  # pictures are read when they are asked for
    with pytest.raises(InputError, match=message):
        batches(dm, "test") if kind is PicturesDataModule else dm.setup("test")
    dm = kind(tmp_path, corrupt="skip")
    with caplog.at_level(logging.INFO):
        dm.setup("test")
    assert [case.case_id for case in dm.cases("test")] == ["p1_a", "p3_a"]
    assert dm.skipped["test"] == {"unreadable cases": 1}
    assert "left out 1 unreadable cases" in caplog.text
    assert "2 cases of 2 patients, 2 slices" in caplog.text
    path.unlink()
    for name in ("p1_a", "p3_a"):
        (tmp_path / "test" / f"{name}.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"no case of the test split.*can be read"):
        kind(tmp_path, corrupt="skip").setup("test")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_case_damaged_later_names_file_and_case_from_a_worker(tmp_path: Path, workers: int):
    write_cases(tmp_path, {"test": ["p1_a"]}, slices=1)
    dm = PicturesDataModule(tmp_path, num_workers=workers, persistent_workers=False)
    dm.setup("test")
    (tmp_path / "test" / "p1_a.npz").write_bytes(b"")
    assert error_of(dm.test_dataloader()).startswith("case p1_a: ")


def test_a_picture_of_several_slices_is_refused(root: Path):
    dm = PicturesDataModule(root)
    dm.setup("test")
    assert "expected one picture, got 3 slices" in error_of(dm.test_dataloader())


def test_training_without_any_structure_is_an_error(tmp_path: Path):
    write_cases(tmp_path, {"train": ["p1_a"], "val": ["p2_a"]}, slices=1)
    with pytest.raises(InputError, match=r"no training slice.*shows a structure"):
        ArraysDataModule(tmp_path, empty_slices="skip").setup("fit")


def test_transforms_of_different_shapes_name_the_cases(root: Path):
    dm = ArraysDataModule(root)
    dm.setup("test")
    dataset = dm.datasets["test"]
    first = dataset[0]
    dataset.preparation = SlicePreparation(SquareResize(5), 5)
    with pytest.raises(ValueError, match=r"case p5_a \(3, 5, 5\)"):
        SliceCollate()([first, dataset[4]])
