import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from data_modules import ACDCDataModule
from data_modules.acdc import SSL4MIS_TEST, SSL4MIS_VAL
from data_modules.acdc_files import read_info
from data_modules.real_samples import RealSamplesDataModule
from medzeroseg.imaging import InputError
from tests.helpers.fake_data import write_acdc_h5
from tests.helpers.fake_segmentation import ACDC_SPACING_MM, write_acdc

RV, MYOCARDIUM, LV = 1, 2, 3


def module(root: Path, folder: Path, **options: object) -> ACDCDataModule:
    return ACDCDataModule(root, cache_dir=folder / "cache", num_workers=0, image_size_px=32, **options)  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_acdc(tmp_path / "acdc")


def test_the_challenge_layout(root: Path, tmp_path: Path):
    dm = module(root, tmp_path)
    dm.setup()
    cases = {case.case_id: case for split in ("train", "val", "test") for case in dm.cases(split)}
    assert sorted(case.case_id for case in dm.cases("test")) == [
        "patient101_frame01",
        "patient101_frame09",
        "patient102_frame01",
        "patient102_frame10",
    ]
    assert len(dm.cases("train")) == 8
    assert len(dm.cases("val")) == 2
    assert {case.patient for case in dm.cases("train")} | {case.patient for case in dm.cases("val")} == {
        f"patient{number:03d}" for number in range(1, 6)
    }
    assert cases["patient003_frame01"].facts == {"phase": "end-diastole", "group": "DCM"}
    assert cases["patient003_frame11"].facts == {"phase": "end-systole", "group": "DCM"}
    assert not [file for case in cases.values() for file in case.source.files if "_4d" in file.name]
    item = dm.datasets["test"][1]
    assert item["spacing_mm"] == pytest.approx(ACDC_SPACING_MM)
    assert item["slice_count"] == 4
    label = item["native_mask"].numpy()
    stored = np.asarray(nib.load(cases["patient101_frame01"].source.files[1]).dataobj)[..., 1]
    assert np.array_equal(label, stored.T)
    assert np.argwhere(label == RV)[:, 1].mean() < np.argwhere(label == LV)[:, 1].mean()
    assert dm.label_names == {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
    assert dm.modality == "cardiac MRI"


@pytest.mark.parametrize("below", ["database", "ACDC", "ACDC/database"])
def test_any_root_above_training(tmp_path: Path, below: str):
    write_acdc(tmp_path / "root" / below, training=2)
    dm = module(tmp_path / "root", tmp_path)
    assert len(dm.index_split("train").cases) == 2


def test_an_unzipped_copy(root: Path, tmp_path: Path):
    for path in root.rglob("*_frame*.nii.gz"):
        nib.save(nib.load(path), path.with_name(path.name.removesuffix(".gz")))
        path.unlink()
    dm = module(root, tmp_path)
    dm.setup("test")
    assert len(dm.cases("test")) == 4


def test_the_publication_tests_on_all_training_volumes(root: Path, tmp_path: Path):
    dm = module(root, tmp_path, split="publication")
    dm.setup("test")
    assert len(dm.cases("test")) == 10


def test_the_publications_split_trains_on_the_patients_that_it_does_not_test(tmp_path: Path):
    root = write_acdc(tmp_path / "acdc", training=2, testing=5)
    dm = module(root, tmp_path, split="publication")
    dm.setup()
    patients = {split: {case.patient for case in dm.cases(split)} for split in ("train", "val", "test")}  # type: ignore[arg-type]
    assert patients["test"] == {"patient001", "patient002"}
    assert len(patients["val"]) == 1
    assert patients["train"] | patients["val"] == {f"patient{number}" for number in range(101, 106)}
    assert not patients["train"] & patients["val"]


def test_the_publications_split_cannot_train_without_the_testing_patients(tmp_path: Path):
    root = write_acdc(tmp_path / "acdc", testing=0)
    with pytest.raises(InputError, match=r"no testing/, which the split 'publication' trains on.*ssl4mis"):
        module(root, tmp_path, split="publication").setup("fit")


def test_ssl4mis_patients():
    assert len(SSL4MIS_VAL) == 10
    assert len(SSL4MIS_TEST) == 20
    assert not SSL4MIS_VAL & SSL4MIS_TEST
    assert all(f"patient{number:03d}" not in SSL4MIS_VAL | SSL4MIS_TEST for number in (3, 4, 5, 6, 9, 100))


@pytest.mark.parametrize("form", ["nifti", "h5"])
def test_ssl4mis_split_goes_by_its_patients(tmp_path: Path, form: str):
    if form == "nifti":
        write_acdc(tmp_path / "acdc", training=5, testing=0)
    else:
        write_acdc_h5(tmp_path / "acdc", train_patients=3, test_patients=2)
    dm = module(tmp_path / "acdc", tmp_path, split="ssl4mis")
    dm.setup()
    patients = {split: sorted({case.patient for case in dm.cases(split)}) for split in ("train", "val", "test")}  # type: ignore[arg-type]
    assert patients == {
        "train": ["patient003", "patient004", "patient005"],
        "val": ["patient002"],
        "test": ["patient001"],
    }


def test_a_patient_without_gt_is_named_or_left_out(tmp_path: Path):
    root = write_acdc(tmp_path / "acdc", gt_of_testing=False)
    with pytest.raises(InputError, match=r"4 case\(s\) of the test split.*patient101_frame01.*missing_reference=skip"):
        module(root, tmp_path).setup("test")
    dm = module(root, tmp_path)
    dm.setup("predict")
    assert len(dm.cases("predict")) == 4
    (root / "training" / "patient002" / "patient002_frame01_gt.nii.gz").unlink()
    dm = module(root, tmp_path, missing_reference="skip")
    dm.setup("fit")
    assert sum(sum(skipped.values()) for skipped in dm.skipped.values()) == 1


def test_a_missing_frame_is_named_or_left_out(root: Path, tmp_path: Path):
    (root / "testing" / "patient101" / "patient101_frame01.nii.gz").unlink()
    with pytest.raises(InputError, match=r"testing.patient101: there is no patient101_frame01.*names frame 1 as ED"):
        module(root, tmp_path).setup("test")
    dm = module(root, tmp_path, corrupt="skip")
    dm.setup("test")
    assert dm.skipped["test"] == {"frames without an image": 1}


@pytest.mark.parametrize("content", ["", "ED: 0\nES: 3\n", "ED: one\nES: 3\n", "ES: 3\n"])
def test_a_damaged_info_file_is_named(tmp_path: Path, content: str):
    (tmp_path / "Info.cfg").write_text(content)
    with pytest.raises(InputError, match=r"Info\.cfg: expected a line 'ED: <frame number>'"):
        read_info(tmp_path / "Info.cfg")
    with pytest.raises(InputError, match=r"Info\.cfg: cannot be read"):
        read_info(tmp_path / "gone" / "Info.cfg")


def test_info_with_windows_line_ends_and_a_byte_order_mark(tmp_path: Path):
    (tmp_path / "Info.cfg").write_bytes("\ufeffED: 1\r\nES:12 \r\nWeight: 70\r\n".encode())
    facts = read_info(tmp_path / "Info.cfg")
    assert facts.frames == {"ED": 1, "ES": 12}
    assert facts.group is None


def test_missing_roots_say_how_to_get_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    terms = "CC BY-NC-SA 4.0"
    with pytest.raises(InputError, match=rf"ACDC: there is no folder .*nowhere.*{terms}"):
        module(tmp_path / "nowhere", tmp_path).setup("fit")
    with pytest.raises(InputError, match=rf"holds neither training/ nor train_slices\.list.*{terms}"):
        module(tmp_path, tmp_path).setup("fit")
    write_acdc(tmp_path / "part", training=2, testing=0)
    with pytest.raises(InputError, match=rf"has no testing/.*split=ssl4mis.*{terms}"):
        module(tmp_path / "part", tmp_path).setup("test")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; give the folder"):
        module(tmp_path / "file", tmp_path).setup("fit")

    def refuse(path: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"part: the folder may not be read \(no permission\)"):
        module(tmp_path / "part", tmp_path).setup("fit")


def test_labels_of_another_set_are_refused(root: Path, tmp_path: Path):
    path = root / "testing" / "patient101" / "patient101_frame01_gt.nii.gz"
    stored = nib.load(path)
    nib.save(nib.Nifti1Image(np.where(np.asarray(stored.dataobj) == 3, 7, 0).astype(np.uint8), stored.affine), path)
    with pytest.raises(InputError, match=r"case patient101_frame01: .*_gt\.nii\.gz: the label map holds 7"):
        module(root, tmp_path).setup("test")


def test_the_h5_form_by_its_lists(tmp_path: Path):
    root = write_acdc_h5(tmp_path / "acdc", train_patients=5, test_patients=2)
    dm = module(root, tmp_path)
    dm.setup()
    assert [len({case.patient for case in dm.cases(split)}) for split in ("train", "val", "test")] == [4, 1, 2]  # type: ignore[arg-type]
    by_id = {case.case_id: case for case in dm.cases("train")}
    assert all(len(case.source.files) == 4 for case in by_id.values())  # slices of a volume make one case
    case = next(iter(by_id.values()))
    assert case.facts == {"phase": "end-diastole" if case.case_id.endswith("01") else "end-systole"}
    assert [file.stem.rsplit("_", 1)[1] for file in case.source.files] == ["1", "2", "3", "4"]
    assert all(len(case.source.files) == 1 for case in dm.cases("test"))
    assert dm.datasets["test"][0]["slice_count"] == 4


def test_the_h5_form_with_many_slices_keeps_their_order(tmp_path: Path):
    root = write_acdc_h5(tmp_path / "acdc", train_patients=2, test_patients=1, slices=12)
    case = module(root, tmp_path).index_split("train").cases[0]
    assert [int(file.stem.rsplit("_", 1)[1]) for file in case.source.files] == list(range(1, 13))


def test_the_h5_form_with_a_list_of_validation_patients(tmp_path: Path):
    root = write_acdc_h5(tmp_path / "acdc", train_patients=3, test_patients=2)
    names = (root / "test.list").read_text().split()
    (root / "val.list").write_text("\n".join(name for name in names if name.startswith("patient004")))
    (root / "test.list").write_text("\n".join(name for name in names if name.startswith("patient005")))
    dm = module(root, tmp_path)
    dm.setup()
    assert {case.patient for case in dm.cases("val")} == {"patient004"}
    assert len({case.patient for case in dm.cases("train")}) == 3


def test_faults_of_the_h5_form_are_named(tmp_path: Path):
    root = write_acdc_h5(tmp_path / "acdc", train_patients=3, test_patients=1)
    names = (root / "train_slices.list").read_text()
    gap = next(name for name in names.split() if name.endswith("_slice_2"))
    (root / "train_slices.list").write_text(names.replace(f"{gap}\n", ""))
    dm = module(root, tmp_path)
    assert sum(dm.index_split(split).skipped["slices missing inside a volume"] for split in ("train",)) == 1  # type: ignore[arg-type]
    (root / "data" / f"{gap}.h5").unlink()
    (root / "train_slices.list").write_text(names)
    with pytest.raises(InputError, match=rf"1 listed file\(s\) are missing \({gap}\.h5\)"):
        dm.index_split("train")
    (root / "train_slices.list").write_text("patient1\n")
    with pytest.raises(InputError, match="'patient1' is no name of the SSL4MIS form"):
        dm.index_split("train")
    (root / "train_slices.list").unlink()
    with pytest.raises(InputError, match=r"train_slices\.list: there is no such file.*CC BY-NC-SA"):
        dm.index_split("train")
    with pytest.raises(InputError, match="in the h5 form, for which there is no split 'challenge'"):
        module(root, tmp_path, split="challenge").index_split("test")
    write_acdc(root, training=1, testing=0)
    with pytest.raises(InputError, match=r"holds the challenge's form .* and the h5 form"):
        dm.index_split("test")


@pytest.fixture(scope="module")
def real(real_samples: Path, tmp_path_factory: pytest.TempPathFactory) -> ACDCDataModule:
    dm = module(real_samples / "acdc_h5", tmp_path_factory.mktemp("acdc"))
    dm.setup()
    return dm


class TestRealPixels:
    def test_counts(self, real: ACDCDataModule):
        counts = [(len(real.cases(split)), len(real.datasets[split])) for split in ("train", "val", "test")]  # type: ignore[arg-type, index]
        assert counts == [(48, 470), (12, 120), (20, 210)]

    def test_the_same_patients_are_held_out_as_for_image_text_pairs(self, real: ACDCDataModule, real_samples: Path):
        """Or a model trained on the pairs would be scored on patients that it saw."""
        pairs = RealSamplesDataModule(real_samples, datasets=["acdc_h5"], num_workers=0)
        pairs.setup()
        for split in ("train", "val", "test"):
            of_pairs = {patient.removeprefix("acdc_h5/") for patient in pairs.patients[split]}  # type: ignore[index]
            assert of_pairs == {case.patient for case in real.cases(split)}  # type: ignore[arg-type]

    def test_facts_of_the_anatomy(self, real: ACDCDataModule):
        """The RV lies left of the LV, the myocardium surrounds the LV, the ED cavity is larger than the ES cavity."""
        cavity: dict[tuple[str, str], int] = {}
        left_of = slices = surrounded = border = 0
        for split in ("train", "val", "test"):
            dataset = real.datasets[split]  # type: ignore[index]
            for case, reader in zip(dataset.cases, dataset.readers, strict=True):
                masks = np.stack([reader.read_slice(number).mask for number in range(reader.slice_count)])
                cavity[case.patient, case.facts["phase"]] = int((masks == LV).sum())
                for mask in masks[(masks == LV).any(axis=(1, 2)) & (masks == RV).any(axis=(1, 2))]:
                    slices += 1
                    left_of += np.argwhere(mask == RV)[:, 1].mean() < np.argwhere(mask == LV)[:, 1].mean()
                    ring = ndimage.binary_dilation(mask == LV) & (mask != LV)
                    border += int(ring.sum())
                    surrounded += int((mask[ring] == MYOCARDIUM).sum())
        assert slices > 300
        assert left_of / slices > 0.99
        assert surrounded / border > 0.97
        patients = {patient for patient, _ in cavity}
        assert len(patients) == 40
        assert all(cavity[patient, "end-diastole"] > cavity[patient, "end-systole"] for patient in patients)

    def test_pictures_are_neither_black_nor_flat(self, real: ACDCDataModule):
        for index in range(0, 210, 15):
            image = real.datasets["test"][index]["image"]
            assert image.std() > 0.08
            assert 0.05 < image.mean() < 0.6
