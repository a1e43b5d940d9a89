import csv
from pathlib import Path

import pytest

from data_modules import MedPixDataModule
from medzeroseg.imaging import InputError
from tests.helpers.fake_captioned import caption, write_csv, write_medpix, write_picture

SPLITS = ("train", "val", "test")


def module(root: Path, **options: object) -> MedPixDataModule:
    return MedPixDataModule(root, **{"num_workers": 0, "batch_size": 4, "image_size_px": 16, **options})  # type: ignore[arg-type]


def ids(dm: MedPixDataModule) -> dict[str, set[str]]:
    return {split: {record.case_id for record in dm.index_split(split).records} for split in SPLITS}  # type: ignore[arg-type]


def case(image_id: str) -> str:
    return image_id.rstrip("b")


def test_splits_are_by_case_disjoint_complete_and_of_the_right_size(tmp_path: Path):
    found = ids(module(write_medpix(tmp_path, cases=400)))
    cases = {split: {case(image_id) for image_id in names} for split, names in found.items()}
    assert sum(len(names) for names in found.values()) == 500
    assert sum(len(names) for names in cases.values()) == len(set.union(*cases.values())) == 400
    # Within four standard deviations of 85 / 7.5 / 7.5 %.
    for split, share in zip(SPLITS, (0.85, 0.075, 0.075), strict=True):
        assert abs(len(cases[split]) - 400 * share) < 4 * (400 * share * (1 - share)) ** 0.5


def test_a_case_keeps_its_split_whatever_else_is_there(tmp_path: Path):
    few, many = ids(module(write_medpix(tmp_path / "few", cases=40))), ids(module(write_medpix(tmp_path / "many")))
    assert all(few[split] <= many[split] for split in SPLITS)
    assert ids(module(tmp_path / "many", seed=5)) == many
    assert ids(module(tmp_path / "many", split_seed=5)) != many


def test_the_peers_protocol_tests_on_the_validation_split(tmp_path: Path):
    write_medpix(tmp_path)
    own, peers = ids(module(tmp_path)), ids(module(tmp_path, test_on="val"))
    assert peers["train"] == own["train"]
    assert peers["val"] == peers["test"] == own["val"] | own["test"]


def test_the_split_is_stored_and_read_back(tmp_path: Path):
    write_medpix(tmp_path / "data")
    dm = module(tmp_path / "data", split_seed=3)
    dm.write_split(tmp_path / "split.csv")
    rows = list(csv.DictReader((tmp_path / "split.csv").open()))
    assert len({row["case"] for row in rows}) == len(rows) == 80
    again = module(tmp_path / "data", split_file=tmp_path / "split.csv")
    assert ids(again) == ids(dm) != ids(module(tmp_path / "data"))
    assert not list(tmp_path.glob(".*"))
    (tmp_path / "split.csv").write_text("case,split\nsynpic100,train\n")
    with pytest.raises(InputError, match=r"split\.csv: case synpic101 of medpix_dataset\.csv is in no split"):
        ids(module(tmp_path / "data", split_file=tmp_path / "split.csv"))
    (tmp_path / "split.csv").write_text("case,split\nsynpic100,training\n")
    with pytest.raises(InputError, match="case synpic100: 'training' is no split; expected train, val, test"):
        ids(module(tmp_path / "data", split_file=tmp_path / "split.csv"))
    with pytest.raises(InputError, match=r"no/split\.csv: cannot be written"):
        dm.write_split(tmp_path / "no" / "split.csv")


def test_each_caption_stays_with_its_image_whatever_the_path_in_the_file(tmp_path: Path):
    rows = []
    for number, path in enumerate(("{}.jpg", "images/{}.jpg", "C:\\medpix\\images\\{}.jpg", "/a.b/{}.jpg")):
        name = f"synpic{number}"
        write_picture(tmp_path / "images" / f"{name}.jpg", 50 + 40 * number)
        rows.append((path.format(name), caption(name, 50 + 40 * number)))
    write_csv(tmp_path / "medpix_dataset.csv", ("filename", "Caption"), rows)
    dm = module(tmp_path, train_fraction=1e-9, test_on="val")
    dm.setup("test")
    [batch] = dm.test_dataloader()
    assert batch["case_id"] == ["synpic0", "synpic1", "synpic2", "synpic3"]
    for number, (text, image) in enumerate(zip(batch["text"], batch["image"], strict=True)):
        assert text.startswith(f"Radiograph synpic{number} of brightness")
        assert abs(float(image.mean()) * 255 - 50 - 40 * number) < 4


def test_what_is_left_out_is_counted(tmp_path: Path):
    write_medpix(tmp_path, cases=5)
    with (tmp_path / "medpix_dataset.csv").open("a") as stream:
        stream.write("synpic101.jpg,another caption of this image\nsynpic900.jpg,x\nsynpic901.jpg,too short\n")
        stream.write("synpic902.jpg,\nsynpic903.jpg,no such image but a caption\n")
    for name in ("synpic901", "synpic902", "synpic999"):
        write_picture(tmp_path / "images" / f"{name}.jpg", 90)
    (tmp_path / "images/synpic900.jpg").write_bytes(b"")
    split = tmp_path / "split.csv"
    write_csv(split, ("case", "split"), [(f"synpic{n}", "train") for n in (*range(100, 105), *range(900, 904))])
    index = module(tmp_path, split_file=split).index_split("train")
    assert index.skipped == {
        "captions without an image": 1,
        "captions whose image file is empty": 1,
        "images without a caption": 1,
        "repeated captions of one image": 0,
        "further, different captions of one image": 1,
        "captions under 20 characters": 1,
    }
    assert len(index.records) == 8
    assert next(r for r in index.records if r.case_id == "synpic101").caption.startswith("Radiograph synpic101")
    with pytest.raises(InputError, match=r"2 of 11 captions.*synpic900, synpic903\); fetch them, or .*missing=skip"):
        module(tmp_path, split_file=split, missing="error").index_split("train")
    everything = module(tmp_path, split_file=split, min_caption_characters=0).index_split("train")
    assert len(everything.records) == 9


def test_an_empty_split_is_named(tmp_path: Path):
    write_medpix(tmp_path, cases=2)
    with pytest.raises(InputError, match="MedPix: no usable pair in the val split"):
        module(tmp_path, train_fraction=1 - 1e-9).setup("validate")


def test_absent_parts_are_named_with_terms(tmp_path: Path):
    with pytest.raises(InputError, match=r"does not exist.*medpix\.nlm\.nih\.gov.*EXP=phantom_cehnc"):
        module(tmp_path / "nowhere").setup()
    with pytest.raises(InputError, match=r"lacks medpix_dataset\.csv and images\."):
        module(tmp_path).setup()


@pytest.mark.parametrize("option", [{"train_fraction": 1.0}, {"min_caption_characters": -1}, {"batch_size": 0}])
def test_arguments_out_of_range_are_named(tmp_path: Path, option: dict[str, float]):
    with pytest.raises(ValueError, match=next(iter(option))):
        module(tmp_path, **option)
