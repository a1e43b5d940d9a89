from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules import SunnybrookDataModule
from data_modules.cases import IGNORE
from medzeroseg.imaging import InputError
from tests.helpers.fake_data import write_sunnybrook

SPLITS = ("train", "val", "test")


def module(root: Path, **options: object) -> SunnybrookDataModule:
    return SunnybrookDataModule(root, **{"num_workers": 0, "batch_size": 2, "image_size_px": 32, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sunnybrook(tmp_path_factory.mktemp("sunnybrook"))


def test_where_no_epicardium_is_outlined_the_slice_is_left_out(root: Path):
    dm = module(root)
    dm.setup(None)
    # 3 slices of each of 10 patients, the first and the third with an epicardium; 2 patients test, 2 validate
    assert [len(dm.cases(split)) for split in SPLITS] == [12, 4, 4]  # type: ignore[arg-type]
    assert dm.skipped["test"] == {"slices whose epicardium is not outlined": 2}
    for split in SPLITS:
        for case in dm.cases(split):  # type: ignore[arg-type]
            mask = case.source.read().mask
            assert mask is not None
            assert set(np.unique(mask)) == {0, 1, 2}
            assert case.facts == {"epicardium": "outlined", "group": "heart failure with infarction"}


def test_myocardium_is_epicardium_minus_endocardium(root: Path):
    case = module(root).index_split("train").cases[0]
    mask = case.source.read().mask
    assert mask is not None
    inner, outer = (
        np.asarray(Image.open(root / folder / f"{case.case_id}.dcm.png")) > 127 for folder in ("i_labels", "o_labels")
    )
    np.testing.assert_array_equal(mask[0] == 1, inner)
    np.testing.assert_array_equal(mask[0] == 2, outer & ~inner)


def test_the_cavity_alone_is_known_in_every_slice(root: Path):
    dm = module(root, structures="cavity")
    dm.setup(None)
    assert [len(dm.cases(split)) for split in SPLITS] == [18, 6, 6]  # type: ignore[arg-type]
    assert dm.label_names == {1: "left ventricle"}
    assert {label for batch in dm.test_dataloader() for label in batch["mask"].unique().tolist()} == {0, 1}


def test_unknown_myocardium_is_ignored_in_training_only(root: Path):
    dm = module(root, without_epicardium="ignore")
    dm.setup(None)
    assert [len(dm.cases(split)) for split in SPLITS] == [18, 4, 4]  # type: ignore[arg-type]
    for case in dm.cases("train"):
        mask = case.source.read().mask
        assert mask is not None
        known = case.facts["epicardium"] == "outlined"
        assert set(np.unique(mask)) == ({0, 1, 2} if known else {1, IGNORE})
    assert any(IGNORE in batch["mask"] for batch in dm.train_dataloader())


def test_patients_are_apart_and_all_slices_of_one_together(root: Path):
    dm = module(root, structures="cavity")
    dm.setup(None)
    patients = [{case.patient for case in dm.cases(split)} for split in SPLITS]  # type: ignore[arg-type]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 10
    assert all(case.case_id.startswith(f"{case.patient}-IM-") for split in SPLITS for case in dm.cases(split))  # type: ignore[arg-type]


def test_dark_pictures_are_stretched(root: Path):
    dm = module(root)
    dm.setup("test")
    for batch in dm.test_dataloader():
        for native in batch["native_image"]:
            assert native.max() == 1
            assert native.min() == 0


class TestBadInput:
    def test_missing_folders(self, tmp_path: Path):
        with pytest.raises(InputError, match="cardiacatlas"):
            module(tmp_path / "nowhere").setup("test")
        (tmp_path / "images").mkdir()
        with pytest.raises(InputError, match="no folder i_labels, o_labels"):
            module(tmp_path).setup("test")

    def test_an_image_without_endocardium_is_counted(self, tmp_path: Path):
        write_sunnybrook(tmp_path)
        case = module(tmp_path).index_split("test").cases[0]
        (tmp_path / "i_labels" / f"{case.case_id}.dcm.png").unlink()
        assert module(tmp_path).index_split("test").skipped["images without a label"] == 1

    def test_an_empty_split(self, tmp_path: Path):
        write_sunnybrook(tmp_path)
        for path in (tmp_path / "o_labels").iterdir():
            path.unlink()
        with pytest.raises(InputError, match="6 slices whose epicardium is not outlined"):
            module(tmp_path).setup("test")

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda path: path.write_bytes(path.read_bytes()[:60]), "damaged"),
            (lambda path: Image.new("L", (63, 64)).save(path), "the mask has 63 x 64 pixels"),
        ],
    )
    def test_a_bad_mask_names_file_and_case(self, tmp_path: Path, spoil: object, message: str):
        write_sunnybrook(tmp_path)
        case = module(tmp_path).index_split("test").cases[1]
        spoil(tmp_path / "o_labels" / f"{case.case_id}.dcm.png")  # type: ignore[operator]
        dm = module(tmp_path)
        dm.setup("test")
        with pytest.raises(InputError, match=message) as caught:
            list(dm.test_dataloader())
        assert str(caught.value).startswith(f"case {case.case_id}: ")
        assert "o_labels" in str(caught.value)

    def test_unknown_arguments_are_named(self):
        with pytest.raises(ValueError, match="structures: 'wall'"):
            module(Path("nowhere"), structures="wall")
        with pytest.raises(ValueError, match="without_epicardium: 'guess'"):
            module(Path("nowhere"), without_epicardium="guess")


def test_real_slices(real_samples: Path):
    both, cavity = (
        module(real_samples / "sunnybrook", structures=structures) for structures in ("cavity and wall", "cavity")
    )
    for dm, total in ((both, 263), (cavity, 506)):
        dm.setup(None)
        assert sum(len(dm.cases(split)) for split in SPLITS) == total  # type: ignore[arg-type]
        assert sum(len({case.patient for case in dm.cases(split)}) for split in SPLITS) == 29  # type: ignore[arg-type]
    assert {case.facts["group"] for case in cavity.cases("train")} == {
        "heart failure with infarction",
        "heart failure without infarction",
        "hypertrophy",
        "healthy",
    }
    for case in both.cases("test")[::4]:
        arrays = case.source.read()
        assert arrays.mask is not None
        # blood is bright in cine MR, the wall is dark
        assert arrays.image[arrays.mask == 1].mean() > 1.3 * arrays.image[arrays.mask == 2].mean()
