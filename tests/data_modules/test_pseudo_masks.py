"""Other masks in the place of a dataset's own, and images handed out without any."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_modules.pairs import SquareResize
from data_modules.pseudo_masks import pseudo_mask_file
from medzeroseg.imaging import InputError
from tests.helpers.fake_segmentation import ArraysDataModule, PicturesDataModule, batches, rows, write_case, write_cases

NAMES = {"train": ["p1_a", "p2_a"], "val": ["p3_a"], "test": ["p4_a"]}
SIZE = (6, 5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_cases(tmp_path / "data", NAMES)


def write_masks(dm: ArraysDataModule, folder: Path) -> dict[str, np.ndarray]:
    """Masks that are nowhere the cases' own: label 2 in the last slice alone."""
    written = {}
    for part in ("train", "val"):
        for case_id, file in dm.pseudo_mask_files(part, folder).items():
            count = dm.all_cases(part)[1][0].slice_count
            mask = np.zeros((count, *SIZE), np.uint8)
            mask[-1, :, 0] = 2
            file.parent.mkdir(parents=True, exist_ok=True)
            np.save(file, mask, allow_pickle=False)
            written[case_id] = mask
    return written


def test_training_and_validation_masks_are_replaced_and_the_test_keeps_its_own(root: Path, tmp_path: Path) -> None:
    dm = ArraysDataModule(root, image_size_px=6, batch_size=1)
    dm.setup("fit")
    images = {(case, int(n)): image for case, n, image in rows(batches(dm, "train"), "case_id", "slice_index", "image")}
    written = write_masks(dm, tmp_path / "masks")
    dm.use_pseudo_masks(tmp_path / "masks")
    dm.setup("test")
    for case, n, image, mask in rows(batches(dm, "train"), "case_id", "slice_index", "image", "mask"):
        assert torch.equal(image, images[case, int(n)])
        assert set(mask.unique().tolist()) == set(np.unique(written[case][int(n)]).tolist())
    for case, n, mask in rows(batches(dm, "val"), "case_id", "slice_index", "native_mask"):
        assert np.array_equal(mask.numpy(), written[case][int(n)])
    for (mask,) in rows(batches(dm, "test"), "native_mask"):
        assert 2 not in mask


def test_empty_slices_are_those_of_the_other_masks(root: Path, tmp_path: Path) -> None:
    dm = ArraysDataModule(root, empty_slices="skip")
    write_masks(dm, tmp_path / "masks")
    dm.use_pseudo_masks(tmp_path / "masks")
    assert [int(n) for (n,) in rows(batches(dm, "train"), "slice_index")] == [2, 2]


def test_cases_without_a_reference_take_part(root: Path, tmp_path: Path) -> None:
    write_case(root, "train", "p5_unlabelled")
    dm = ArraysDataModule(root, missing_reference="skip")
    dm.setup("fit")
    assert [case.case_id for case in dm.cases("train")] == ["p1_a", "p2_a"]
    assert "p5_unlabelled" in write_masks(dm, tmp_path / "masks")
    dm.use_pseudo_masks(tmp_path / "masks")
    assert [case.case_id for case in dm.cases("train")] == ["p1_a", "p2_a", "p5_unlabelled"]


@pytest.mark.parametrize("kind", [ArraysDataModule, PicturesDataModule])
def test_images_are_handed_out_without_masks_and_batches_hold_one_case(
    kind: type[ArraysDataModule], tmp_path: Path
) -> None:
    root = write_cases(tmp_path / "data", NAMES, slices=1 if kind is PicturesDataModule else 5)
    dm = kind(root)
    found = list(dm.images_of_cases("train", ["p2_a", "p1_a"], SquareResize(16), 2))
    assert [len(batch["case_id"]) for batch in found] == ([1, 1] if kind is PicturesDataModule else [2, 2, 1] * 2)
    assert all(len(set(batch["case_id"])) == 1 for batch in found)
    assert found[0]["image"].shape[1:] == (3, 16, 16)
    assert all(mask is None for batch in found for mask in batch["native_mask"])
    assert all((batch["mask"] == -1).all() for batch in found)
    of_one = list(dm.images_of_cases("train", ["p2_a"], SquareResize(16), 2))
    torch.testing.assert_close(of_one[0]["image"], found[len(found) // 2]["image"], rtol=0, atol=0)


def test_a_changed_image_has_another_file(root: Path) -> None:
    dm = ArraysDataModule(root)
    before = dm.pseudo_mask_files("train", Path("masks"))
    write_case(root, "train", "p1_a", seed=7)
    after = dm.pseudo_mask_files("train", Path("masks"))
    assert before["p1_a"] != after["p1_a"]
    assert before["p2_a"] == after["p2_a"]


def test_file_names_hold_any_case_id(root: Path) -> None:
    dm = ArraysDataModule(root)
    [case, *_] = dm.all_cases("train")[0]
    names = {
        pseudo_mask_file(Path("masks"), type(case)(name, name, case.source)).name
        for name in ("a/b", "a%2Fb", "a b", "..")
    }
    assert len(names) == 4
    assert not any("/" in name for name in names)


def test_missing_masks_are_counted_and_named(root: Path, tmp_path: Path) -> None:
    dm = ArraysDataModule(root)
    write_masks(dm, tmp_path / "masks")
    dm.pseudo_mask_files("train", tmp_path / "masks")["p2_a"].unlink()
    with pytest.raises(InputError, match=r"1 of 2 train case\(s\) have no pseudo-mask here \(p2_a\)"):
        dm.use_pseudo_masks(tmp_path / "masks")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no array of masks"),
        (np.zeros((3, 6, 6), np.uint8), r"\(3, 6, 6\) do not fit images \(3, 6, 5\)"),
        (np.zeros((3, *SIZE), np.int64), "must be uint8, not int64"),
        (np.array([{}], dtype=object), "no array of masks"),
    ],
)
def test_bad_masks_are_errors_that_name_file_and_case(
    root: Path, tmp_path: Path, content: bytes | np.ndarray, message: str
) -> None:
    dm = ArraysDataModule(root)
    write_masks(dm, tmp_path / "masks")
    file = dm.pseudo_mask_files("val", tmp_path / "masks")["p3_a"]
    file.write_bytes(content) if isinstance(content, bytes) else np.save(file, content, allow_pickle=True)
    dm.use_pseudo_masks(tmp_path / "masks")
    with pytest.raises(InputError, match=f"case p3_a: .*{file.name}.*{message}"):
        batches(dm, "val")
