from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_modules import COVIDQUExDataModule
from data_modules.covid_qu_ex_files import find_part, find_xrays
from medzeroseg.imaging import InputError
from tests.helpers.fake_data import write_covid_qu_ex

ALL = ("Train", "Val", "Test")


def module(root: Path, **options: object) -> COVIDQUExDataModule:
    return COVIDQUExDataModule(root, **{"num_workers": 0, "batch_size": 2, "image_size_px": 32, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_covid_qu_ex(tmp_path_factory.mktemp("covid"), splits=ALL)
    return write_covid_qu_ex(folder, splits=ALL, part_name="Lung Segmentation Data", count=3, seed=5, doubled=False)


def test_official_splits_and_structures(root: Path):
    dm = module(root)
    dm.setup(None)
    assert [len(dm.cases(split)) for split in ("train", "val", "test")] == [12, 12, 12]
    assert dm.label_names == {1: "lungs without infection", 2: "infection"}
    assert dm.label_parts == {"lungs": (1, 2), "infection": (2,)}
    for case in dm.cases("test"):
        arrays = case.source.read()
        assert arrays.mask is not None
        assert arrays.image.shape == arrays.mask.shape == (1, 64, 64)
        lungs = np.asarray(Image.open(case.source.files[1])) > 127
        infection = np.asarray(Image.open(case.source.files[2])) > 127
        np.testing.assert_array_equal(np.isin(arrays.mask[0], dm.label_parts["lungs"]), lungs)
        np.testing.assert_array_equal(np.isin(arrays.mask[0], dm.label_parts["infection"]), infection)
        assert infection.any() == (case.facts["diagnosis"] == "COVID-19")
        assert case.case_id.startswith(f"Test/{case.facts['diagnosis']}/")
    for batch in dm.test_dataloader():
        assert set(batch["mask"].unique().tolist()) <= {0, 1, 2}
        assert batch["spacing_mm"].isnan().all()


def test_the_parts_are_never_mixed(root: Path):
    dm = module(root, part="lungs")
    dm.setup(None)
    assert [len(dm.cases(split)) for split in ("train", "val", "test")] == [9, 9, 9]
    assert dm.label_names == {1: "lungs"}
    assert dm.label_parts == {"lungs": (1,)}
    files = [str(path) for split in dm.datasets for case in dm.cases(split) for path in case.source.files]
    assert all("Lung Segmentation Data" in path for path in files)
    assert not any("Infection" in path for path in files)


def test_without_test_folder_val_tests_and_train_is_parted(tmp_path: Path):
    write_covid_qu_ex(tmp_path, count=10)
    with pytest.raises(InputError, match="set test_folder=Val"):
        module(tmp_path).setup("test")
    dm = module(tmp_path, test_folder="Val")
    dm.setup(None)
    assert [len(dm.cases(split)) for split in ("train", "val", "test")] == [24, 6, 30]
    for diagnosis in ("COVID-19", "Non-COVID", "Normal"):
        assert sum(case.facts["diagnosis"] == diagnosis for case in dm.cases("val")) == 2
    again = module(tmp_path, test_folder="Val", seed=9)
    again.setup("fit")
    assert [case.case_id for case in again.cases("val")] == [case.case_id for case in dm.cases("val")]


def test_a_root_may_be_the_part_itself_or_doubled(tmp_path: Path):
    write_covid_qu_ex(tmp_path / "once", doubled=False)
    write_covid_qu_ex(tmp_path / "twice")
    name = "Infection Segmentation Data"
    assert find_part(tmp_path / "once", "infection") == tmp_path / "once" / name
    assert find_part(tmp_path / "twice", "infection") == tmp_path / "twice" / name / name
    assert find_part(tmp_path / "once" / name, "infection") == tmp_path / "once" / name
    with pytest.raises(InputError, match=r"no folder 'Lung Segmentation Data'.*CC BY-SA"):
        find_part(tmp_path / "once", "lungs")


def test_names_that_differ_in_case_are_two_and_endings_may_be_capitals(tmp_path: Path):
    write_covid_qu_ex(tmp_path, splits=("Train",), count=1, doubled=False)
    top = tmp_path / "Infection Segmentation Data" / "Train" / "Non-COVID"
    for folder in ("images", "lung masks", "infection masks"):
        file = top / folder / "non_COVID (0).png"
        file.with_name("Non_COVID (0).PNG").write_bytes(file.read_bytes())
    found = find_xrays(top.parent, "infection", Counter())
    assert [xray.name for xray in found if xray.diagnosis == "Non-COVID"] == ["Non_COVID (0)", "non_COVID (0)"]


def test_masks_and_images_that_stand_alone_are_counted(tmp_path: Path):
    write_covid_qu_ex(tmp_path, splits=ALL)
    top = next(tmp_path.rglob("Test")) / "Normal"
    (top / "infection masks" / "Normal (20).png").unlink()
    (top / "images" / "Normal (21).png").unlink()
    dm = module(tmp_path)
    dm.setup("test")
    assert len(dm.cases("test")) == 10
    assert dm.skipped["test"] == {"images without a mask": 1, "masks without an image": 1}


class TestBadInput:
    def test_a_missing_class_or_root(self, tmp_path: Path):
        with pytest.raises(InputError, match="covidqu"):
            module(tmp_path / "nowhere").setup("test")
        write_covid_qu_ex(tmp_path, splits=ALL)
        top = next(tmp_path.rglob("Test")) / "Normal"
        for path in (top / "lung masks").iterdir():
            path.unlink()
        (top / "lung masks").rmdir()
        with pytest.raises(InputError, match=r"Normal: there is no folder 'lung masks'"):
            module(tmp_path).setup("test")

    def test_an_empty_split(self, tmp_path: Path):
        write_covid_qu_ex(tmp_path, splits=ALL)
        for path in next(tmp_path.rglob("Test")).rglob("images/*.png"):
            path.unlink()
        with pytest.raises(InputError, match=r"no usable case in the test split.*12 masks without an image"):
            module(tmp_path).setup("test")

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda path: path.write_bytes(path.read_bytes()[:60]), "damaged"),
            (lambda path: path.write_bytes(b""), "0 bytes"),
            (lambda path: Image.new("L", (64, 63)).save(path), "the mask has 64 x 63 pixels, its image"),
            (lambda path: Image.new("L", (64, 64), 1).save(path), "the values 0 and 255 was expected"),
        ],
    )
    def test_a_bad_mask_names_file_and_case_or_is_skipped(self, tmp_path: Path, spoil: object, message: str):
        write_covid_qu_ex(tmp_path, splits=ALL)
        path = next(tmp_path.rglob("Test")) / "COVID-19" / "infection masks" / "covid_21.png"
        spoil(path)  # type: ignore[operator]
        dm = module(tmp_path)
        dm.setup("test")
        with pytest.raises(InputError, match=message) as caught:
            list(dm.test_dataloader())
        assert str(caught.value).startswith("case Test/COVID-19/covid_21: ")
        assert "infection masks" in str(caught.value)
        skipping = module(tmp_path, corrupt="skip")
        skipping.setup("test")
        assert len(skipping.cases("test")) == 11

    def test_unknown_arguments_are_named(self):
        with pytest.raises(ValueError, match="part: 'heart'"):
            module(Path("nowhere"), part="heart")
        with pytest.raises(ValueError, match="test_folder: 'train'"):
            module(Path("nowhere"), test_folder="train")


def test_real_x_rays(real_samples: Path):
    dm = module(real_samples / "covid_qu_ex", test_folder="Val")
    dm.setup(None)
    assert [len(dm.cases(split)) for split in ("train", "val", "test")] == [593, 107, 250]
    assert all(not counts for counts in dm.skipped.values())
    for case in dm.cases("test")[::9]:
        arrays = case.source.read()
        assert arrays.mask is not None
        counts = np.bincount(arrays.mask.ravel(), minlength=3)
        assert counts[1:].sum() > 0.05 * arrays.mask.size
        assert bool(counts[2]) <= (case.facts["diagnosis"] == "COVID-19")
        # the infection takes nothing away from the lungs
        lungs = np.asarray(Image.open(case.source.files[1]).convert("L")) > 127
        np.testing.assert_array_equal(np.isin(arrays.mask[0], (1, 2)), lungs)
