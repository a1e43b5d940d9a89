import logging
from pathlib import Path

import pytest

from data_modules import PictureFile, ROCOv2DataModule
from data_modules.roco_v2 import read_captions_csv, read_concepts_csv
from medzeroseg.imaging import InputError
from tests.helpers.fake_captioned import write_csv, write_roco_v2


def setup(root: Path, stage: str | None = None, **options: object) -> ROCOv2DataModule:
    dm = ROCOv2DataModule(root, **{"num_workers": 0, "batch_size": 4, "image_size_px": 16, **options})  # type: ignore[arg-type]
    dm.setup(stage)
    return dm


@pytest.mark.parametrize("nested", [False, True])
def test_reads_all_splits_of_both_layouts(tmp_path: Path, nested: bool, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        dm = setup(write_roco_v2(tmp_path, nested_images=nested))
    assert {split: len(dataset) for split, dataset in dm.datasets.items()} == {"train": 8, "val": 4, "test": 6}
    for split, name in (("train", "train"), ("val", "valid"), ("test", "test")):
        folder = tmp_path / f"{name}_images" / name if nested else tmp_path / name
        for record in dm.datasets[split].records:  # type: ignore[index]
            assert isinstance(record.source, PictureFile)
            assert record.source.path == folder / f"{record.case_id}.jpg"
    assert not any(dm.skipped.values())
    assert "Commonest concepts (train): C0040405, C0817096, C1306645." in caplog.text


def test_each_caption_stays_with_its_image_and_is_one_line(tmp_path: Path):
    dm = setup(write_roco_v2(tmp_path), "test")
    seen = 0
    for batch in dm.test_dataloader():
        for name, text, image in zip(batch["case_id"], batch["text"], batch["image"], strict=True):
            level = int(text.split("brightness ")[1].split(",")[0])
            assert text == f'Radiograph {name} of brightness {level}, with a "quote" and µ'
            assert abs(float(image.mean()) * 255 - level) < 4
            seen += 1
    assert seen == 6


def test_missing_images_are_counted_or_an_error(tmp_path: Path):
    write_roco_v2(tmp_path)
    for number in (1, 2):
        (tmp_path / f"test/ROCOv2_2023_test_00000{number}.jpg").unlink()
    (tmp_path / "test/stray.jpg").write_bytes(b"")
    dm = setup(tmp_path, "test")
    assert dm.skipped["test"] == {"captions without an image": 2, "images without a caption": 1}
    with pytest.raises(InputError, match=r"2 of 6 captions.*test_000001, ROCOv2_2023_test_000002\); .*missing=skip"):
        setup(tmp_path, "test", missing="error")


def test_absent_parts_are_named_with_terms(tmp_path: Path):
    with pytest.raises(InputError, match=r"does not exist.*zenodo.*Creative Commons.*EXP=phantom_cehnc"):
        setup(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"val split was expected in .*valid_captions\.csv"):
        setup(write_roco_v2(tmp_path, sizes={"train": 2}))
    write_csv(tmp_path / "valid_captions.csv", ("ID", "Caption"), [("a", "b")])
    with pytest.raises(InputError, match=r"expected in .*valid or .*valid_images/valid; neither"):
        setup(tmp_path, "validate")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Caption,Ident\na,b\n", "line 1: no column 'ID'.*found Caption,Ident"),
        ("", "line 1: no column 'ID'.*found nothing"),
        ("ID,Caption\nx1,one, two\n", "line 2: 3 fields where the header has 2; a caption with commas"),
        ("ID,Caption\nx1,ok\nx2\n", "line 3: 1 fields"),
        ('ID,Caption\nx1,"never closed\nx2,more\n', "not well-formed CSV"),
        ('ID,Caption\nx1,"one" two\n', "line 2: not well-formed"),
        ("ID,Caption\n,text\n", "line 2: the field 'ID' is empty"),
        ("ID,Caption\nx1,one\nx1,two\n", "line 3: x1 has a second, different caption"),
        ('ID,Caption\nx1,"' + "x2,swallowed\n" * 2000 + '"\n', "a quote before it is not closed"),
        ("ID,Caption\nx1,caf\xe9\n".encode("latin-1"), "line 2: not UTF-8"),
    ],
)
def test_captions_that_cannot_be_trusted_name_file_and_line(tmp_path: Path, text: str | bytes, message: str):
    path = tmp_path / "test_captions.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError, match=message) as caught:
        read_captions_csv(path)
    assert str(path) in str(caught.value)


def test_captions_and_concepts_of_every_form(tmp_path: Path):
    path = tmp_path / "captions.csv"
    path.write_bytes('\ufeffID,Caption\r\nx1,"a, ""b""\r\n c"\r\nx2,\r\n\r\nx1,"a, ""b"" c"\r\n x3 ,"µ – 肺"'.encode())
    captions = read_captions_csv(path)
    assert captions.texts == {"x1": 'a, "b" c', "x2": "", "x3": "µ – 肺"}
    assert captions.repeated == ["x1"]
    path.write_text("ID,CUIs\nx1,C1;C2\nx2,\n")
    assert read_concepts_csv(path) == {"x1": ("C1", "C2"), "x2": ()}
