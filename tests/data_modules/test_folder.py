import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_modules import FolderDataModule
from data_modules.folder_files import match_files
from medzeroseg.imaging import FixedWindow, InputError, PercentileWindow
from tests.helpers.fake_segmentation import (
    describe,
    write_chest_folder,
    write_folder,
    write_nifti,
    write_nnunet,
    write_png,
)

SPLITS = ("train", "val", "test")


def module(root: Path, **options: object) -> FolderDataModule:
    return FolderDataModule(root, num_workers=0, image_size_px=16, **options)  # type: ignore[arg-type]


def ids(dm: FolderDataModule) -> dict[str, list[str]]:
    return {split: [case.case_id for case in dm.index_split(split).cases] for split in SPLITS}  # type: ignore[arg-type]


def set_up(root: Path, **options: object) -> FolderDataModule:
    dm = module(root, **options)
    dm.setup()
    return dm


def test_volumes_with_label_maps(tmp_path: Path):
    dm = set_up(write_folder(tmp_path))
    assert dm.label_names == {1: "liver", 2: "spleen"}
    assert dm.label_parts == {"liver": (1,), "spleen": (2,)}
    assert dm.modality == "abdominal CT"
    assert dm.window == FixedWindow(-160, 240)
    found = ids(dm)
    assert sorted(name for of_split in found.values() for name in of_split) == [
        f"P{n:02d}_day{d}" for n in range(4) for d in range(2)
    ]
    patients = [{name[:3] for name in found[split]} for split in SPLITS]
    assert sum(map(len, patients)) == 4  # both days of a patient are in one split
    assert all(patients)
    item = dm.datasets["test"][1]
    assert item["spacing_mm"] == pytest.approx((2, 2, 2))
    liver = np.argwhere(item["native_mask"].numpy() == 1)
    assert liver[:, 1].mean() < 4  # stored RAS, the liver to the right: left on the picture
    assert item["native_image"].max() == pytest.approx((100 + 160) / 400)


def test_options_override_the_description(tmp_path: Path):
    dm = set_up(
        write_folder(tmp_path), modality="MRI", window=PercentileWindow(1, 99), view="stored", patient=r"P0(\d)"
    )
    assert (dm.modality, dm.window) == ("MRI", PercentileWindow(1, 99))
    assert dm.cases("test")[0].patient in "0123"
    assert np.argwhere(dm.datasets["test"][1]["native_mask"].numpy() == 1)[:, 1].mean() > 5


def test_the_split_depends_on_the_patients_alone(tmp_path: Path):
    first = ids(module(write_folder(tmp_path / "a", cases=20)))
    assert ids(module(write_folder(tmp_path / "b", cases=20), seed=5)) == first
    assert {split: len(found) for split, found in first.items()} == {"train": 12, "val": 4, "test": 4}
    shares = ids(module(tmp_path / "a", val_share=0, test_share=0.5))
    assert {split: len(found) for split, found in shares.items()} == {"train": 10, "val": 0, "test": 10}


def test_its_own_cache_is_no_data(tmp_path: Path):
    root = write_folder(tmp_path)
    before = ids(module(root))
    set_up(root)
    assert (root / ".medzeroseg_cache" / "entries").is_dir()
    assert ids(module(root)) == before


@pytest.mark.parametrize("beside", [False, True])
def test_pictures_with_a_mask_a_structure(tmp_path: Path, beside: bool):
    dm = set_up(write_chest_folder(tmp_path, beside=beside), splits_file=None)
    assert dm.pictures
    assert dm.window == FixedWindow(0, 255)
    assert dm.label_names == {1: "lungs", 2: "infection"}
    assert sorted(name for of_split in ids(dm).values() for name in of_split) == [f"case ({n})" for n in range(6)]
    mask = dm.datasets["test"][0]["native_mask"].numpy()
    assert (mask == 2).sum() == 6 * 5
    assert (mask == 1).sum() == 12 * 7 - 6 * 5
    assert not (tmp_path / ".medzeroseg_cache").exists()


def test_a_case_that_lacks_a_mask_has_no_reference(tmp_path: Path):
    """Its other masks would say that the structure is absent."""
    root = write_chest_folder(tmp_path)
    for path in root.glob("masks/*_infection.png"):
        path.unlink()
        break
    indexed = [case for split in SPLITS for case in module(root).index_split(split).cases]  # type: ignore[arg-type]
    assert [case.source.has_reference for case in indexed].count(False) == 1
    with pytest.raises(InputError, match="have no reference"):
        module(root).setup()
    set_up(root, missing_reference="skip", test_share=0.5, val_share=0.5)


def test_label_maps_without_an_image_are_counted(tmp_path: Path):
    root = write_folder(tmp_path)
    (root / "images" / "P00_day0.nii.gz").unlink()
    assert module(root).index_split("train").skipped["label maps without an image"] == 1


def test_two_files_with_one_id(tmp_path: Path):
    root = write_folder(tmp_path, description={"images": "images/{id}.*"})
    write_nifti(root / "images" / "P00_day0.nii", np.zeros((3, 8, 10), np.int16))
    with pytest.raises(InputError, match=r"images/P00_day0\.nii and images/P00_day0\.nii\.gz are both case P00_day0"):
        module(root).index_split("train")


def test_parts_and_unknown_pixels(tmp_path: Path):
    root = write_folder(tmp_path, description={"parts": {"both": [1, 2], "spleen": [2]}, "ignore": 9})
    for path in (root / "labels").iterdir():
        label = np.zeros((3, 8, 10), np.uint8)
        label[0], label[1] = 9, 2
        write_nifti(path, label)
    dm = set_up(root)
    assert dm.label_parts == {"both": (1, 2), "spleen": (2,)}
    assert [set(np.unique(dm.datasets["test"][k]["native_mask"])) for k in range(3)] == [{255}, {2}, {0}]


def test_an_id_names_its_patient_or_is_refused(tmp_path: Path):
    root = write_folder(tmp_path, description={"patient": r"^(Q\d+)"})
    with pytest.raises(InputError, match=r"expression '\^\(Q\\d\+\)' is not found in the id 'P00_day0'"):
        module(root).index_split("train")


LISTS = {"train": ["P00", "P01_day0"], "val": ["P02"], "test": ["P03_day1"]}
EXPECTED = {
    "train": ["P00_day0", "P00_day1", "P01_day0"],
    "val": ["P02_day0", "P02_day1"],
    "test": ["P03_day1"],
}


@pytest.mark.parametrize("form", ["json", "yaml", "txt", "folds", "description"])
def test_explicit_lists(tmp_path: Path, form: str):
    root = write_folder(tmp_path / "set", description={"splits": LISTS} if form == "description" else None)
    text = {
        "json": json.dumps(LISTS),
        "yaml": yaml.safe_dump(LISTS),
        "txt": "\n".join(f"{name}\t{split}" for split, names in LISTS.items() for name in names) + "\n\n",
        "folds": json.dumps([{"train": ["P03"], "val": ["P02"]}, LISTS]),
    }
    file = None
    if form != "description":
        file = tmp_path / f"splits.{'json' if form == 'folds' else form}"
        file.write_text(text[form])
    assert ids(module(root, splits_file=file, fold=1 if form == "folds" else 0)) == EXPECTED


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.json", '{"train": ["P77"]}', r"1 of the train split are not in the folder \(P77\)"),
        ("s.json", '{"training": ["P00"]}', "expected lists of ids under train, val and test"),
        ("s.json", '{"train": "P00"}', "train: expected a list"),
        ("s.json", '{"val": ["P00"]}', "there is no list for the train split"),
        ("s.json", '[{"train": ["P00"]}]', "there is no fold 1; the file has 1"),
        ("s.json", '{"train"', "cannot be read as YAML or JSON"),
        ("s.txt", "P00 train\nP01 trian\n", "entry 2: expected 'id train'"),
        ("s.yaml", "!!python/object/apply:os.system ['true']", "cannot be read as YAML"),
    ],
)
def test_faults_of_lists(tmp_path: Path, name: str, text: str, message: str):
    root = write_folder(tmp_path / "set")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        module(root, splits_file=tmp_path / name, fold=1).index_split("train")


def test_one_patient_in_two_lists(tmp_path: Path):
    lists = {"train": ["P00_day0"], "val": ["P00_day1"], "test": ["P01"]}
    root = write_folder(tmp_path, description={"splits": lists})
    with pytest.raises(InputError, match=r"patient P00 .* is in the train and in the val split"):
        module(root).setup("fit")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "'labels' is missing"),
        ({"labels": {0.5: "x"}}, "'0.5' is no label id"),
        ({"labels": {300: "x"}}, "'300' is no label id"),
        ({"labels": {1: "x", 2: "x"}}, "a name of its own"),
        ({"images": None}, "'images' is missing"),
        ({"images": "images/*.nii.gz"}, "images: expected a path with .id."),
        ({"images": "../{id}.nii.gz"}, "leads out of the dataset's folder"),
        ({"masks": {"liver": "m/{id}.png"}}, "masks are given for liver, but labels name liver, spleen"),
        ({"window": "brian"}, "window: expected one of abdomen"),
        ({"window": {"low": 5, "high": 1}}, "window: .*low must be below high"),
        ({"view": "coronal"}, "view: 'coronal' is unknown"),
        ({"patient": "P("}, "patient: 'P\\(' is no regular expression"),
        ({"modality": 3}, "modality: expected a text"),
        ({"parts": {"x": [7]}}, "parts: x: expected a list of ids out of 1, 2"),
        ({"maks": "x"}, "unknown key 'maks'"),
    ],
)
def test_faults_of_the_description_name_file_and_key(tmp_path: Path, change: dict[str, object], message: str):
    root = write_folder(tmp_path, cases=2, description=change)
    if None in change.values():
        values = yaml.safe_load((root / "dataset.yaml").read_text())
        describe(root, {key: value for key, value in values.items() if value is not None})
    with pytest.raises(InputError, match=rf"dataset\.yaml: .*{message}"):
        module(root).index_split("train")


def test_a_folder_without_a_description_or_images(tmp_path: Path):
    with pytest.raises(InputError, match=r"has no dataset\.yaml or dataset\.json. Write a dataset\.yaml"):
        module(tmp_path).setup()
    describe(tmp_path, {"labels": {1: "x"}, "images": "images/{id}.png"})
    with pytest.raises(InputError, match=r"no file under .* fits the pattern 'images/\{id\}\.png'"):
        module(tmp_path).setup()
    with pytest.raises(InputError, match="there is no folder"):
        module(tmp_path / "gone").setup()


@pytest.mark.parametrize(
    "options", [{"val_share": 1.0}, {"test_share": -0.1}, {"fold": -1}, {"patient": "no group"}, {"patient": "("}]
)
def test_bad_arguments_are_named(tmp_path: Path, options: dict[str, object]):
    with pytest.raises(ValueError, match=next(iter(options))):
        module(tmp_path, **options)


@pytest.mark.parametrize("version", [1, 2])
def test_nnunet(tmp_path: Path, version: int):
    dm = module(write_nnunet(tmp_path, version=version))
    dm.setup("fit")
    assert dm.label_names == {1: "liver", 2: "tumour"}
    assert dm.modality == "CT"
    assert dm.window == FixedWindow(-160, 240)
    found = ids(dm)
    assert found["test"] == ["set_006", "set_007"]
    assert sorted(found["train"] + found["val"]) == [f"set_{n:03d}" for n in range(6)]
    assert found["val"]
    with pytest.raises(InputError, match="set_006, set_007"):
        dm.setup("test")
    dm.setup("predict")
    assert len(dm.datasets["predict"]) == 4
    for number in (6, 7):
        write_nifti(tmp_path / "labelsTs" / f"set_{number:03d}.nii.gz", np.ones((2, 6, 6), np.uint8))
    set_up(tmp_path)


def test_nnunet_without_test_images_tests_on_held_out_ones(tmp_path: Path):
    found = ids(module(write_nnunet(tmp_path, testing=0)))
    assert [len(found[split]) for split in SPLITS] == [3, 1, 2]


def test_nnunet_folds_leave_the_test_images(tmp_path: Path):
    root = write_nnunet(tmp_path)
    folds = [{"train": ["set_000", "set_001"], "val": ["set_002"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    found = ids(module(root, splits_file=tmp_path / "splits_final.json"))
    assert found == {"train": folds[0]["train"], "val": ["set_002"], "test": ["set_006", "set_007"]}


@pytest.mark.parametrize("channel", [1, "1", "T2"])
def test_nnunet_channels(tmp_path: Path, channel: int | str):
    root = write_nnunet(tmp_path, channels=("T1", "T2"))
    dm = module(root, channel=channel)
    case = dm.index_split("train").cases[0]
    assert case.source.read().image.min() == 1  # the fake's channel 1
    assert dm.modality == "T2"
    assert dm.window == PercentileWindow()
    with pytest.raises(InputError, match=r"channels 0 \(T1\), 1 \(T2\); choose one with channel="):
        module(root).index_split("train")
    with pytest.raises(InputError, match="there is no channel 'T3'"):
        module(root, channel="T3").index_split("train")


def test_nnunet_regions_and_ignored_pixels(tmp_path: Path):
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    root = write_nnunet(tmp_path, labels=labels, testing=0)
    label = np.zeros((2, 6, 6), np.uint8)
    label[0], label[1, 0] = 3, 2
    for path in (root / "labelsTr").iterdir():
        write_nifti(path, label)
    dm = set_up(root)
    assert dm.label_names == {1: "label 1", 2: "core"}
    assert dm.label_parts == {"whole": (1, 2), "core": (2,)}
    assert set(np.unique(dm.datasets["test"][0]["native_mask"])) == {255}
    assert set(np.unique(dm.datasets["test"][1]["native_mask"])) == {0, 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": {"background": 0}}, "there is no structure beside the background"),
        ({"labels": {"liver": "one"}}, "'one' is no label id"),
        ({"labels": []}, "expected labels like"),
        ({"channel_names": {"1": "CT"}}, "expected channel_names"),
        ({"file_ending": "nii"}, "file_ending: expected an ending"),
    ],
)
def test_faults_of_dataset_json(tmp_path: Path, change: dict[str, object], message: str):
    root = write_nnunet(tmp_path, cases=1)
    values = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**values, **change}))
    with pytest.raises(InputError, match=rf"dataset\.json: .*{message}|{message}"):
        module(root).index_split("train")


def test_patterns(tmp_path: Path):
    names = ["a/x.png", "a/x.jpg", "b/x/", "b/x/x_1.png", "c.png"]
    assert match_files(tmp_path, names, "a/{id}.png") == {"x": tmp_path / "a" / "x.png"}
    assert match_files(tmp_path, names, "b/{id}/") == {"x": tmp_path / "b" / "x"}
    assert match_files(tmp_path, names, "b/{id}/{id}_1.png") == {"x": tmp_path / "b/x/x_1.png"}
    assert match_files(tmp_path, names, "*/{id}.png") == {"x": tmp_path / "a" / "x.png"}
    assert match_files(tmp_path, names, "{id}.p.g") == {}


def test_a_grey_picture_pair(tmp_path: Path):
    for number in range(5):
        write_png(tmp_path / "i" / f"{number}.png", np.full((6, 6), 40, np.uint8))
        write_png(tmp_path / "l" / f"{number}.png", np.eye(6, dtype=np.uint8))
    describe(tmp_path, {"labels": {1: "line"}, "images": "i/{id}.png", "masks": "l/{id}.png"})
    dm = set_up(tmp_path)
    assert dm.datasets["test"][0]["native_mask"].sum() == 6
