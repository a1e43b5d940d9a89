import logging
import time
from pathlib import Path

import numpy as np
import pytest

from data_modules import PhantomROCODataModule, ROCODataModule
from data_modules.pairs import PictureFile
from data_modules.roco_text import read_captions, read_licences, read_terms
from medzeroseg.imaging import InputError
from tests.helpers.fake_data import RocoFaults, write_roco, write_roco_folder
from tests.helpers.loading import error_of


def setup(root: Path, stage: str | None = None, **options: object) -> ROCODataModule:
    dm = ROCODataModule(root, **{"num_workers": 0, "batch_size": 4, "image_size_px": 16, **options})  # type: ignore[arg-type]
    dm.setup(stage)
    return dm


def captions(text: str | bytes, folder: Path) -> dict[str, str]:
    path = folder / "captions.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_captions(path).texts


def test_reads_all_splits_of_the_owners_layout(tmp_path: Path):
    dm = setup(write_roco(tmp_path))
    assert {split: len(dataset) for split, dataset in dm.datasets.items()} == {
        "train": 8,
        "val": 4,
        "test": 6,
    }
    for split, folder in (("train", "train"), ("val", "validation"), ("test", "test")):
        for record in dm.datasets[split].records:  # type: ignore[index]
            assert isinstance(record.source, PictureFile)
            assert record.source.path == tmp_path / f"data/{folder}/radiology/images/{record.case_id}.jpg"
            assert record.caption.startswith(f"Radiograph {record.case_id} of brightness")


def test_each_caption_stays_with_its_image(tmp_path: Path):
    dm = setup(write_roco(tmp_path), "test")
    for batch in dm.test_dataloader():
        for text, image in zip(batch["text"], batch["image"], strict=True):
            level = int(text.split("brightness ")[1].split(",")[0])
            assert abs(float(image.mean()) * 255 - level) < 4


def test_the_data_folder_itself_is_accepted_as_root(tmp_path: Path):
    write_roco(tmp_path)
    assert len(setup(tmp_path / "data", "test").datasets["test"]) == 6


def test_subsets(tmp_path: Path):
    write_roco(tmp_path)
    write_roco(tmp_path, subset="non-radiology", train=2, validation=2, test=2)
    assert len(setup(tmp_path, "test", subset="non-radiology").datasets["test"]) == 2
    both = setup(tmp_path, subset="both").datasets
    ids = [record.case_id for record in both["test"].records]
    assert len(ids) == len(set(ids)) == 8
    assert "non-radiology/ROCO_00005" in ids
    assert len(both["train"]) == 10


def test_caption_traps(tmp_path: Path):
    long = "word " * 480
    text = (
        "\ufeffROCO_00001\t Leading space, tab\there and\t\there.  \r\n"
        "ROCO_00002\t \"Quoted, with commas\" and 'more'\r\n"
        "ROCO_00003\t ± 5 µm – Ödem, 肺\r\n"
        f"ROCO_00004\t {long}\r\n"
        "ROCO_00005\t \r\n"
        "ROCO_00006\r\n"
        "\r\n"
        "ROCO_00007\t one\u2028two\x0cthree\x85four\r\n"
        "ROCO_00008\t no line end"
    )
    assert captions(text, tmp_path) == {
        "ROCO_00001": "Leading space, tab here and here.",
        "ROCO_00002": "\"Quoted, with commas\" and 'more'",
        "ROCO_00003": "± 5 µm – Ödem, 肺",
        "ROCO_00004": long.strip(),
        "ROCO_00005": "",
        "ROCO_00006": "",
        "ROCO_00007": "one two three four",
        "ROCO_00008": "no line end",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ROCO_00001\t a caption\nthat goes on\n", "line 2: expected an image id"),
        ("\t a caption without id\n", "line 1: expected an image id"),
        ("ROCO_00001\t one\nROCO_00001\t two\n", "line 2: ROCO_00001 has a second, different caption"),
        ("ROCO_00001\t fine\nROCO_00002\t caf\xe9\n".encode("latin-1"), "line 2: not UTF-8"),
    ],
)
def test_captions_that_cannot_be_trusted_name_file_and_line(tmp_path: Path, text: str | bytes, message: str):
    with pytest.raises(InputError, match=message) as caught:
        captions(text, tmp_path)
    assert str(tmp_path / "captions.txt") in str(caught.value)


def test_planted_faults_are_counted_and_the_rest_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    faults = RocoFaults(
        missing_images=2,
        images_without_caption=3,
        empty_captions=4,
        repeated_ids=1,
        byte_order_mark=True,
        windows_line_ends=True,
        tabs_in_captions=True,
    )
    write_roco(tmp_path, train=0, validation=0, test=10, faults=faults)
    with caplog.at_level(logging.INFO):
        dm = setup(tmp_path, "test")
    records = dm.datasets["test"].records
    assert [record.case_id for record in records] == [f"ROCO_{n:05d}" for n in range(5, 11)]
    assert all(record.caption.startswith(f"Radiograph {record.case_id} of brightness") for record in records)
    assert dm.skipped["test"] == {
        "captions without an image": 2,
        "images without a caption": 3,
        "repeated captions of one id": 1,
        "empty captions": 2,
    }
    assert "test 6 pairs, 6 distinct captions, left out 2 captions without an image" in caplog.text
    assert "Commonest keywords (test): radiograph, " in caplog.text


def test_missing_images_can_be_an_error(tmp_path: Path):
    write_roco(tmp_path, faults=RocoFaults(missing_images=2))
    with pytest.raises(InputError, match=r"2 of 6 captions.*ROCO_00013, ROCO_00014.*missing=skip"):
        setup(tmp_path, "test", missing="error")


def test_no_image_at_all_is_an_error_even_when_missing_ones_are_skipped(tmp_path: Path):
    write_roco(tmp_path, faults=RocoFaults(missing_images=6))
    with pytest.raises(InputError, match=r"6 of 6 captions.*razorx89/roco-dataset"):
        setup(tmp_path, "test")


@pytest.mark.parametrize("workers", [0, 1])
def test_damaged_images_name_file_and_case(tmp_path: Path, workers: int):
    write_roco(tmp_path, faults=RocoFaults(zero_byte_images=1, truncated_images=1))
    dm = setup(tmp_path, "test", batch_size=1, num_workers=workers, persistent_workers=False)
    path = tmp_path / "data/test/radiology/images/ROCO_00013.jpg"
    expected = f"case ROCO_00013: {path}: the file is empty (0 bytes); fetch or export it again"
    assert error_of(dm.test_dataloader()) == expected


def test_damaged_images_can_be_skipped(tmp_path: Path):
    write_roco(tmp_path, faults=RocoFaults(zero_byte_images=1, truncated_images=2))
    dm = setup(tmp_path, "test", corrupt="skip")
    assert dm.case_ids("test") == ["ROCO_00016", "ROCO_00017", "ROCO_00018"]
    assert dm.skipped["test"]["unreadable images"] == 3
    assert sum(len(batch["text"]) for batch in dm.test_dataloader()) == 3


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: None, r"does not exist"),
        (lambda root: root.mkdir(), r"has no folder data/test or test"),
        (lambda root: (root / "data/test/radiology/images").mkdir(parents=True), r"lacks captions\.txt\."),
        (lambda root: (root / "data/test").mkdir(parents=True), r"lacks captions\.txt and images\."),
    ],
)
def test_missing_data_says_what_where_how_and_offers_the_phantom(tmp_path: Path, spoil: object, message: str):
    root = tmp_path / "roco"
    spoil(root)  # type: ignore[operator]
    with pytest.raises(InputError, match=message) as caught:
        setup(root, "test")
    told = str(caught.value)
    assert str(root / "data" / "test" / "radiology") in told
    assert "razorx89/roco-dataset" in told
    assert "Creative Commons" in told
    assert "make train EXP=phantom_cehnc" in told


def test_a_thousand_test_pairs_by_default_and_all_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_roco_folder(tmp_path / "data/test/radiology", 30)
    dm = ROCODataModule(tmp_path)
    assert dm.limits == {"train": None, "val": None, "test": 1000}
    chosen = setup(tmp_path, "test", max_test_pairs=10).case_ids("test")
    assert len(chosen) == 10
    assert chosen == sorted(chosen)
    assert chosen == setup(tmp_path, "test", max_test_pairs=10, seed=7).case_ids("test")
    assert chosen != setup(tmp_path, "test", max_test_pairs=10, selection_seed=7).case_ids("test")
    assert len(setup(tmp_path, "test", max_test_pairs=None).case_ids("test")) == 30


def test_terms_and_licences(tmp_path: Path):
    (tmp_path / "keywords.txt").write_bytes(b"ROCO_1\t\tct\tliver\r\nROCO_2\t\r\nROCO_3\t\tct\n")
    (tmp_path / "licences.txt").write_text("ROCO_ID,PMC_ID,CC\nROCO_1,PMC9_x-g01.jpg,CC BY-NC\n")
    assert read_terms(tmp_path / "keywords.txt") == {
        "ROCO_1": ("ct", "liver"),
        "ROCO_2": (),
        "ROCO_3": ("ct",),
    }
    assert read_licences(tmp_path / "licences.txt") == {"ROCO_1": ("PMC9_x-g01.jpg", "CC BY-NC")}
    (tmp_path / "licences.txt").write_text("ROCO_ID,PMC_ID,CC\nROCO_1,PMC9\n")
    with pytest.raises(InputError, match="line 2"):
        read_licences(tmp_path / "licences.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read_terms(tmp_path / "nothing.txt")


def test_other_image_forms_and_upper_case_endings_are_found(tmp_path: Path):
    write_roco(tmp_path, train=0, validation=0)
    images = tmp_path / "data/test/radiology/images"
    (images / "ROCO_00001.jpg").rename(images / "ROCO_00001.JPG")
    (images / "ROCO_00002.jpg").rename(images / "ROCO_00002.png")
    (images / "ROCO_00003.png").write_bytes(b"")  # beside the owners' .jpg
    (images / "Thumbs.db").write_bytes(b"")
    dm = setup(tmp_path, "test")
    assert dm.skipped["test"] == {}
    assert sum(len(batch["text"]) for batch in dm.test_dataloader()) == 6


def test_an_index_of_the_real_size_is_built_within_two_seconds(tmp_path: Path):
    folder = tmp_path / "data/train/radiology"
    (folder / "images").mkdir(parents=True)
    count = 65_448
    lines = [
        f"ROCO_{n:05d}\t Caption {n} of an image with a common length of a hundred characters or so\n"
        for n in range(count)
    ]
    (folder / "captions.txt").write_text("".join(lines))
    for number in range(0, count, 10):
        (folder / "images" / f"ROCO_{number:05d}.jpg").touch()
    dm = ROCODataModule(tmp_path, num_workers=0)
    start = time.process_time()
    index = dm.index_split("train")
    assert time.process_time() - start < 2
    assert len(index.records) == 6545


def test_the_phantom_is_made_once_and_read_by_the_same_reader(tmp_path: Path):
    dm = PhantomROCODataModule(
        tmp_path,
        train=4,
        validation=2,
        test=3,
        image_size_px=32,
        phantom_workers=1,
        num_workers=0,
        batch_size=2,
    )
    dm.prepare_data()
    before = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    dm.prepare_data()
    assert {path: path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before
    dm.setup()
    assert {split: len(dataset) for split, dataset in dm.datasets.items()} == {
        "train": 4,
        "val": 2,
        "test": 3,
    }
    assert not any(dm.skipped.values())
    assert next(iter(dm.train_dataloader()))["image"].shape == (2, 3, 32, 32)


def test_the_six_real_images(real_samples: Path):
    dm = setup(real_samples / "roco_v1_six", "test", image_size_px=64)
    batches = list(dm.test_dataloader())
    assert [case for batch in batches for case in batch["case_id"]] == [
        "ROCO_00001",
        "ROCO_00006",
        "ROCO_00016",
        "ROCO_00025",
        "ROCO_00031",
        "ROCO_04197",
    ]
    assert batches[0]["text"][0] == "Axial MRI (coronal view)."
    assert all(float(image.std()) > 0.05 for batch in batches for image in batch["image"])
    folder = real_samples / "roco_v1_six" / "data" / "test" / "radiology"
    assert read_terms(folder / "keywords.txt")["ROCO_00001"] == ("axial", "coronal", "mri", "view")
    assert read_terms(folder / "cuis.txt")["ROCO_00001"] == ()
    assert read_licences(folder / "licences.txt")["ROCO_00016"].licence == "CC BY"


def test_all_real_captions_of_the_test_split(real_samples: Path):
    path = real_samples / "roco_captions" / "test_radiology_captions.txt"
    read = read_captions(path)
    # An independent reading: binary, line by line.
    raw = [line for line in path.read_bytes().split(b"\n") if line]
    assert len(read.texts) + len(read.repeated) == len(raw)
    for line in raw:
        image_id, _, rest = line.partition(b"\t")
        assert read.texts[image_id.decode()].split() == rest.decode().split()
    lengths = np.array([len(text) for text in read.texts.values()])
    assert lengths.min() > 0
    assert lengths.max() > 1000
    assert not any(text != text.strip() or "\t" in text for text in read.texts.values())
    assert len(set(read.texts.values())) < len(read.texts)  # some captions recur under several ids
