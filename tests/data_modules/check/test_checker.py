"""Each fault is planted alone into a sound dataset; exactly its finding must appear."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from data_modules import ACDCDataModule, FolderDataModule, ROCODataModule, ROCOv2DataModule
from data_modules.check.checked import DataModule, OtherRoot
from data_modules.check.checker import SPLITS, holders_of_pixels, judge, read_dataset, summarise
from data_modules.check.findings import Finding
from data_modules.check.label_rules import label_summaries
from tests.helpers.fake_captioned import write_roco_v2
from tests.helpers.fake_data import RocoFaults, write_roco
from tests.helpers.fake_segmentation import ArraysDataModule, describe, write_acdc, write_case, write_cases, write_nifti

Spoil = Callable[[Path], object]


def check(module: DataModule, other: OtherRoot | None = None) -> dict[str, Finding]:
    checked, seconds = read_dataset(module, SPLITS, 2, lambda done, total: None, other)
    assert seconds > 0
    findings = judge(checked)
    severities = [finding.severity for finding in findings]
    assert severities == sorted(severities, key=["error", "warning", "info"].index)
    return {finding.code: finding for finding in findings}


def folder(root: Path, spoil: Spoil = lambda root: None, **options: object) -> FolderDataModule:
    """Six volumes of six patients, each its own noise; P0..P2 train, P3 validates, P4 and P5 test."""
    rng = np.random.default_rng(0)
    for number in range(6):
        label = np.zeros((3, 8, 10), np.uint8)
        label[:, 2:6, 6:9] = 1
        label[1, 3:5, 1:3] = 2
        write_nifti(root / f"images/P{number}.nii.gz", (label * 60 + rng.integers(0, 30, label.shape)).astype(np.int16))
        write_nifti(root / f"labels/P{number}.nii.gz", label)
    description = {
        "labels": {1: "liver", 2: "spleen"},
        "images": "images/{id}.nii.gz",
        "masks": "labels/{id}.nii.gz",
        "ignore": 255,
        "splits": {"train": ["P0", "P1", "P2"], "val": ["P3"], "test": ["P4", "P5"]},
    }
    describe(root, description)
    spoil(root)
    return FolderDataModule(root, cache_dir=root / "cache", **options)  # type: ignore[arg-type]


def set_label(value: int, where: object = np.s_[0, 0, 0]) -> Spoil:
    def spoil(root: Path) -> None:
        path = root / "labels/P1.nii.gz"
        array = np.asarray(nib.load(path).dataobj).T.copy()
        array[where] = value
        write_nifti(path, array)

    return spoil


def cut(name: str) -> Spoil:
    def spoil(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: len(content) // 2])

    return spoil


def copy(source: str, target: str) -> Spoil:
    return lambda root: (root / target).write_bytes((root / source).read_bytes())


def test_a_sound_dataset_has_no_finding_and_is_summed_up(tmp_path: Path):
    module = folder(tmp_path)
    assert check(module) == {}
    checked, _ = read_dataset(module, SPLITS, 1, lambda done, total: None)
    summary = summarise(checked)
    assert {split: (one.cases, one.slices) for split, one in summary.items()} == {
        "train": (3, 9),
        "val": (1, 3),
        "test": (2, 6),
    }
    assert summary["train"].shapes == {(8, 10): 3}
    assert summary["train"].spacings_mm == ((2.0, 2.0, 2.0), (2.0, 2.0, 2.0))
    liver, spleen = label_summaries(checked)
    assert (liver.label, liver.name, liver.cases) == (1, "liver", {"train": 3, "val": 1, "test": 2})
    assert liver.share == 36 / 240
    assert spleen.share == 4 / 240


@pytest.mark.parametrize(
    ("spoil", "code", "severity", "case_ids", "words"),
    [
        (cut("images/P1.nii.gz"), "case_unusable", "error", ("P1",), "images/P1.nii.gz"),
        (cut("labels/P1.nii.gz"), "case_unusable", "error", ("P1",), "labels/P1.nii.gz"),
        (set_label(7), "label_unknown", "error", ("P1",), "train/P1: 7"),
        (set_label(0, np.s_[:]), "mask_empty", "warning", ("P1",), "train: 1 of 3 masks"),
        (lambda root: (root / "labels/P5.nii.gz").unlink(), "mask_missing", "error", ("P5",), "missing_reference=skip"),
        (
            lambda root: write_nifti(root / "labels/P1.nii.gz", np.ones((3, 8, 9), np.uint8)),
            "case_unusable",
            "error",
            ("P1",),
            "shape",
        ),
        (
            lambda root: write_nifti(root / "labels/P1.nii.gz", np.ones((3, 8, 10), np.uint8), np.diag([2, 2, 3, 1.0])),
            "case_unusable",
            "error",
            ("P1",),
            "affines",
        ),
        (copy("images/P0.nii.gz", "images/P4.nii.gz"), "copy_across_splits", "error", ("P0", "P4"), "= test/P4"),
        (copy("images/P0.nii.gz", "images/P2.nii.gz"), "copy_within_split", "warning", ("P0", "P2"), "= train/P2"),
        (
            lambda root: write_nifti(root / "images/P1.nii.gz", np.full((3, 8, 10), 5, np.int16)),
            "image_blank",
            "warning",
            ("P1",),
            "1 image of one grey level",
        ),
    ],
)
def test_a_planted_fault_gives_its_finding_and_no_other(
    tmp_path: Path, spoil: Spoil, code: str, severity: str, case_ids: tuple[str, ...], words: str
):
    found = check(folder(tmp_path, spoil))
    assert list(found) == [code]
    finding = found[code]
    assert (finding.severity, finding.case_ids) == (severity, case_ids)
    assert words in finding.message + "\n".join(finding.details)


def test_what_the_module_leaves_out_is_a_warning(tmp_path: Path):
    def spoil(root: Path) -> None:
        cut("images/P1.nii.gz")(root)
        (root / "labels/P5.nii.gz").unlink()

    found = check(folder(tmp_path, spoil, corrupt="skip", missing_reference="skip"))
    assert {code: finding.severity for code, finding in found.items()} == {
        "case_unusable": "warning",
        "mask_missing": "warning",
    }


def test_ignored_voxels_are_no_unknown_label_and_spacing_is_looked_at(tmp_path: Path):
    assert check(folder(tmp_path / "ignore", set_label(255))) == {}

    def coarse(root: Path) -> None:
        affine = np.diag([2.0, 2.0, 50.0, 1.0])
        for kind in ("images", "labels"):
            path = root / kind / "P1.nii.gz"
            write_nifti(path, np.asarray(nib.load(path).dataobj).T, affine)

    found = check(folder(tmp_path / "coarse", coarse))
    assert found["spacing_odd"].details == ("train/P1: 50 x 2 x 2 mm",)


def test_a_structure_that_no_training_case_shows(tmp_path: Path):
    def without_spleen(root: Path) -> None:
        for path in (root / "labels").glob("P[012].nii.gz"):
            array = np.asarray(nib.load(path).dataobj).T.copy()
            array[array == 2] = 0
            write_nifti(path, array)

    found = check(folder(tmp_path, without_spleen))
    assert [finding.message for finding in found.values()] == ["no train case shows: spleen"]


def test_ids_and_patients_in_two_places(tmp_path: Path):
    write_cases(tmp_path, {"train": ["p1_a", "p2_a"], "val": ["p3_a"], "test": ["p2_b", "p4_a"]})

    class Twice(ArraysDataModule):
        def index_split(self, split):  # type: ignore[no-untyped-def]
            index = super().index_split(split)
            if split == "train":
                index.cases.append(index.cases[0])
            return index

    assert check(ArraysDataModule(tmp_path)).keys() == {"patient_in_two_splits", "label_absent", "spacing_lost"}
    patient = check(ArraysDataModule(tmp_path))["patient_in_two_splits"]
    assert patient.severity == "error"
    assert patient.case_ids == ("p2_a", "p2_b")
    assert "patient p2 is in the splits test and train" in patient.message
    repeated = check(Twice(tmp_path))["id_repeated"]
    assert (repeated.severity, repeated.case_ids) == ("error", ("p1_a",))


def test_an_empty_split_and_a_missing_one(tmp_path: Path):
    write_case(tmp_path, "train", "p1_a")
    checked, _ = read_dataset(ArraysDataModule(tmp_path), SPLITS, 1, lambda done, total: None)
    empty = [finding for finding in judge(checked) if finding.code == "split_empty"]
    assert [(finding.severity, finding.message) for finding in empty] == [
        ("error", "the val split holds no case"),
        ("error", "the test split holds no case"),
    ]
    (tmp_path / "roco").mkdir()
    unusable = check(ROCODataModule(tmp_path / "roco"))["split_unusable"]
    assert unusable.severity == "error"
    assert [line.partition(":")[0] for line in unusable.details[:3]] == ["train", "val", "test"]
    # How to get it is told once.
    assert "\n".join(unusable.details).count("phantom_cehnc") == 1


def test_acdc_a_patient_without_gt_is_named_and_cines_are_ignored(tmp_path: Path):
    assert check(ACDCDataModule(write_acdc(tmp_path / "good"))).keys() <= {"label_absent"}
    write_acdc(tmp_path / "bad")
    for path in (tmp_path / "bad/training/patient002").glob("*_gt.nii.gz"):
        path.unlink()
    (tmp_path / "bad/training/patient003/patient003_4d.nii.gz").write_bytes(b"never opened")
    found = check(ACDCDataModule(tmp_path / "bad"))
    assert [code for code, finding in found.items() if finding.severity == "error"] == ["mask_missing"]
    assert {case_id.partition("_")[0] for case_id in found["mask_missing"].case_ids} == {"patient002"}


def test_captions_and_damaged_pictures(tmp_path: Path):
    write_roco(tmp_path, train=8, validation=4, test=6, faults=RocoFaults(zero_byte_images=1, truncated_images=1))
    path = tmp_path / "data/train/radiology/captions.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[3] = "ROCO_00004\t "
    lines[4] = "ROCO_00005\t plain words"
    lines[5] = "ROCO_00006\t plain words"
    lines[6] = "ROCO_00007\t " + "word " * 300 + "\ufffd"
    path.write_text("\n".join(lines), encoding="utf-8")
    test = tmp_path / "data/test/radiology/captions.txt"
    test.write_text(test.read_text(encoding="utf-8").replace(lines[7].split("\t")[1], ""), encoding="utf-8")
    found = check(ROCODataModule(tmp_path))
    assert found["case_unusable"].severity == "error"
    assert found["case_unusable"].case_ids[:2] == ("ROCO_00001", "ROCO_00002")
    assert "0 bytes" in found["case_unusable"].details[0]
    assert found["caption_empty"].case_ids == ("ROCO_00004",)
    assert found["caption_repeated"].case_ids == ("ROCO_00005", "ROCO_00006")
    assert found["caption_too_long"].case_ids == ("ROCO_00007",)
    assert "the longest has 301" in found["caption_too_long"].message
    assert found["caption_long"].severity == found["caption_not_ascii"].severity == "info"
    assert found["caption_broken"].case_ids == ("ROCO_00007",)
    assert "15 of 18 captions (83.3 %)" in found["caption_not_ascii"].message
    assert check(ROCODataModule(tmp_path, empty_caption="error"))["caption_empty"].severity == "error"


def test_a_caption_that_recurs_in_another_split(tmp_path: Path):
    write_roco(tmp_path)
    train = (tmp_path / "data/train/radiology/captions.txt").read_text(encoding="utf-8").splitlines()
    path = tmp_path / "data/test/radiology/captions.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[0] = lines[0].split("\t")[0] + "\t" + train[0].split("\t")[1]
    path.write_text("\n".join(lines), encoding="utf-8")
    found = check(ROCODataModule(tmp_path))["caption_across_splits"]
    assert (found.severity, found.details) == ("warning", ("train/ROCO_00001 = test/ROCO_00013",))


def test_images_of_another_root_are_found_by_their_pixels(tmp_path: Path):
    write_roco(tmp_path / "v1")
    write_roco_v2(tmp_path / "v2")
    checked, _ = read_dataset(ROCODataModule(tmp_path / "v1"), SPLITS, 1, lambda done, total: None)
    other = OtherRoot("roco at v1", holders_of_pixels(checked))
    assert "copy_in_other_root" not in check(ROCOv2DataModule(tmp_path / "v2"), other)
    # Re-encoded without loss: other bytes, the same pixels.
    for source, target in ((2, "test/ROCOv2_2023_test_000001"), (1, "train/ROCOv2_2023_train_000001")):
        with Image.open(tmp_path / f"v1/data/train/radiology/images/ROCO_0000{source}.jpg") as picture:
            (tmp_path / f"v2/{target}.jpg").unlink()
            picture.convert("RGB").save(tmp_path / f"v2/{target}.png")
    checked_v2, _ = read_dataset(ROCOv2DataModule(tmp_path / "v2"), SPLITS, 1, lambda done, total: None, other)
    found = [finding for finding in judge(checked_v2) if finding.code == "copy_in_other_root"]
    assert [(finding.severity, finding.details) for finding in found] == [
        ("error", ("test/ROCOv2_2023_test_000001 is train/ROCO_00002 of roco at v1",)),
        ("warning", ("train/ROCOv2_2023_train_000001 is train/ROCO_00001 of roco at v1",)),
    ]
