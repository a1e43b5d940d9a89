import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

import medzeroseg
from medzeroseg.errors import ConfigurationError, OutputError
from medzeroseg.imaging import InputError, read_image
from medzeroseg.main import main
from tests.helpers.fake_dicom import base_dataset, write_series
from tests.helpers.fake_inference import blobs, write_picture
from tests.helpers.identity import SECRETS, holders, plant_in_jpeg, plant_in_nifti

Command = Callable[..., int]
TEXTS = ("left lung", "heart")


@pytest.fixture
def command(checkpoint: Path, quick_method: Path, tmp_path: Path) -> Command:
    def run(inputs: Sequence[Path], *words: str, texts: Sequence[str] = TEXTS) -> int:
        asked = [word for text in texts for word in ("--text", text)]
        fixed = ["--checkpoint", str(checkpoint), "--method", str(quick_method), "--output", str(tmp_path / "out")]
        return main(["segment", *map(str, inputs), *asked, *fixed, "--device", "cpu", *words])

    return run


def record(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text("utf-8"))


def write_oblique_nifti(path: Path) -> np.ndarray:
    angle = np.deg2rad(20)
    affine = np.array(
        [[np.cos(angle), -np.sin(angle), 0, 5], [np.sin(angle), np.cos(angle), 0, -7], [0, 0, 2.5, 30], [0, 0, 0, 1]]
    )
    image = nib.Nifti1Image(blobs(6, 20, 16).astype(np.int16).T, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 2)
    nib.save(image, path)
    return affine


def test_a_grey_picture(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert command([write_picture(tmp_path / "chest.png")]) == 0
    folder = tmp_path / "out" / "chest"
    labels = np.asarray(Image.open(folder / "labels.png"))
    assert labels.shape == (24, 32)
    content = record(folder)
    assert content["files"] == ["labels.png", "overlay.png", "saliency_1_left-lung.png", "saliency_2_heart.png"]
    assert {path.name for path in folder.iterdir()} == {*content["files"], "result.json"}
    for number, label in enumerate(content["labels"], 1):
        assert label["voxels"] == int((labels == number).sum())
        assert label["found"] == (label["voxels"] > 0)
        assert (label["area_mm2"], label["volume_ml"]) == (None, None)
    assert content["labels"][0]["prompts"][:2] == ["left lung", "an image showing the left lung"]
    assert {"read", "look", "masks", "write", "total"} == set(content["seconds"])
    assert content["model"]["checkpoint"] == "best.ckpt"
    assert np.asarray(Image.open(folder / "saliency_1_left-lung.png")).max() > 200
    assert Image.open(folder / "overlay.png").mode == "RGB"
    shown = capsys.readouterr().out
    assert f"chest.png -> {folder}" in shown
    assert "1 left lung: " in shown


def test_a_colour_picture(command: Command, tmp_path: Path):
    Image.fromarray(blobs(3, 20, 20).transpose(1, 2, 0)).save(tmp_path / "skin.png")
    assert command([tmp_path / "skin.png"]) == 0
    assert np.asarray(Image.open(tmp_path / "out" / "skin" / "labels.png")).shape == (20, 20)


def test_an_oblique_nifti_keeps_its_place(command: Command, tmp_path: Path):
    affine = write_oblique_nifti(tmp_path / "scan.nii.gz")
    assert command([tmp_path / "scan.nii.gz"]) == 0
    folder = tmp_path / "out" / "scan"
    labels = nib.load(folder / "labels.nii.gz")
    assert np.array_equal(labels.affine, affine.astype(np.float32))
    assert labels.shape == (16, 20, 6)
    assert (labels.header["qform_code"], labels.header["sform_code"]) == (1, 2)
    saliency = nib.load(folder / "saliency_2_heart.nii.gz")
    assert saliency.get_data_dtype() == np.float32
    assert np.array_equal(saliency.affine, labels.affine)
    assert 0 <= saliency.get_fdata().min() < saliency.get_fdata().max() <= 1
    content = record(folder)
    for number, label in enumerate(content["labels"], 1):
        assert label["volume_ml"] == pytest.approx((labels.get_fdata() == number).sum() * 2.5 / 1000)


def test_a_dicom_series_gets_a_segmentation_that_equals_the_nifti(command: Command, tmp_path: Path):
    write_series(tmp_path / "series", 4, size=12)
    assert command([tmp_path / "series"]) == 0
    folder = tmp_path / "out" / "series"
    _assert_segmentation_equals_nifti(folder)
    assert record(folder)["view"]["modality"] == "abdominal CT"


def _assert_segmentation_equals_nifti(folder: Path) -> None:
    from highdicom.seg import segread

    segmentation = segread(folder / "labels.dcm")
    assert [segmentation.get_segment_description(n).segment_label for n in (1, 2)] == list(TEXTS)
    volume = segmentation.get_volume(combine_segments=True)
    labels = nib.load(folder / "labels.nii.gz")
    assert labels.get_fdata().any()
    # DICOM counts to the patient's left and back; both count voxels from their own corner
    to_ras = np.diag([-1.0, -1, 1, 1]) @ volume.affine
    places = np.argwhere(np.ones(volume.array.shape, bool))
    moved = np.rint((np.linalg.inv(labels.affine) @ to_ras @ np.c_[places, np.ones(len(places))].T)[:3]).astype(int)
    aligned = np.zeros(labels.shape, int)
    inside = (moved >= 0).all(0) & (moved < np.array(labels.shape)[:, None]).all(0)
    aligned[tuple(moved[:, inside])] = volume.array[tuple(places[inside].T)]
    assert np.array_equal(aligned, labels.get_fdata().astype(int))


def test_a_dicom_file_and_a_radiograph_without_a_place(command: Command, tmp_path: Path):
    write_series(tmp_path / "one", 1, size=12)
    base_dataset(blobs(16, 20).astype(np.uint16), Modality="DX").save_as(tmp_path / "chest.dcm")
    assert command([tmp_path / "one" / "slice001.dcm", tmp_path / "chest.dcm"]) == 0
    _assert_segmentation_equals_nifti(tmp_path / "out" / "slice001")
    labels = record(tmp_path / "out" / "slice001")["labels"]
    assert all(label["area_mm2"] == pytest.approx(label["voxels"] * 0.5 * 0.75) for label in labels)
    content = record(tmp_path / "out" / "chest")
    assert "labels.png" in content["files"]
    assert "labels.dcm" in content["files"] or any("no DICOM segmentation" in note for note in content["notes"])


def test_nothing_found_is_an_answer(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_series(tmp_path / "series", 3, size=12)
    picture = write_picture(tmp_path / "chest.png")
    assert command([picture, tmp_path / "series"], "--min-score", "1") == 0
    assert not np.asarray(Image.open(tmp_path / "out" / "chest" / "labels.png")).any()
    assert not nib.load(tmp_path / "out" / "series" / "labels.nii.gz").get_fdata().any()
    assert (tmp_path / "out" / "series" / "labels.dcm").exists()
    assert [label["found"] for label in record(tmp_path / "out" / "chest")["labels"]] == [False, False]
    assert capsys.readouterr().out.count("not found: its score") == 4


def test_a_bad_file_does_not_stop_the_rest(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "c.png"):
        write_picture(folder / name)
    (folder / "b.png").write_bytes(b"not a picture")
    Image.new("L", (1, 1)).save(folder / "d.png")
    (folder / "notes.txt").write_text("notes")
    assert command([folder]) == 1
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "c"]
    shown = capsys.readouterr()
    assert "2 of 4 inputs could not be segmented" in shown.err
    assert "b.png: " in shown.err
    assert "1 x 1 pixels; at least 8 x 8" in shown.err
    assert "1 other file(s)" in shown.out
    assert "Traceback" not in shown.err + shown.out


def test_what_is_done_is_left_alone_and_other_results_are_not_replaced(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    picture = write_picture(tmp_path / "chest.png")
    folder = tmp_path / "out" / "chest"
    assert command([picture]) == 0
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert command([picture], "--batch-size", "3") == 0
    assert "done before" in capsys.readouterr().out
    assert command([picture], texts=["spleen"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert command([picture], "--overwrite", texts=["spleen"]) == 0
    assert {path.name for path in folder.iterdir()} == {
        "labels.png",
        "overlay.png",
        "saliency_1_spleen.png",
        "result.json",
    }
    write_picture(picture, seed=1)
    assert command([picture], texts=["spleen"]) == 2


def test_a_folder_of_the_users_own_is_not_touched(command: Command, tmp_path: Path):
    mine = tmp_path / "out" / "chest" / "labels.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    picture = write_picture(tmp_path / "chest.png")
    assert command([picture]) == 2
    assert mine.read_text() == "mine"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["chest"]


def test_the_api_gives_what_the_command_writes(command: Command, tmp_path: Path, checkpoint: Path, quick_method: Path):
    write_oblique_nifti(tmp_path / "scan.nii.gz")
    assert command([tmp_path / "scan.nii.gz"], "--no-saliency") == 0
    options = {"checkpoint": checkpoint, "method": quick_method, "device": "cpu"}
    (result,) = medzeroseg.segment(tmp_path / "scan.nii.gz", TEXTS, **options)
    folder = tmp_path / "out" / "scan"
    assert np.array_equal(result.label_map, read_image(folder / "labels.nii.gz").array)
    content = record(folder)
    assert [label.score for label in result.labels] == [label["score"] for label in content["labels"]]
    (written,) = medzeroseg.segment(
        [tmp_path / "scan.nii.gz"], list(TEXTS), output=tmp_path / "api", saliency=False, **options
    )
    assert written.folder == tmp_path / "api" / "scan"
    assert record(written.folder)["made_from"] == content["made_from"]
    assert (written.folder / "labels.nii.gz").read_bytes() == (folder / "labels.nii.gz").read_bytes()
    medzeroseg.segment([tmp_path / "scan.nii.gz"], TEXTS, output=tmp_path / "api", saliency=False, **options)
    with pytest.raises(OutputError):
        medzeroseg.segment([tmp_path / "scan.nii.gz"], "liver", output=tmp_path / "api", **options)
    with pytest.raises(InputError):
        medzeroseg.segment(tmp_path / "gone.png", "liver", **options)
    with pytest.raises(ConfigurationError):
        medzeroseg.segment(tmp_path / "scan.nii.gz", [], **options)


def test_no_patient_data_gets_through(
    command: Command, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    folder = tmp_path / "in"
    folder.mkdir()
    Image.fromarray(blobs(20, 20)).save(folder / "picture.jpg")
    plant_in_jpeg(folder / "picture.jpg")
    write_oblique_nifti(tmp_path / "scan.nii.gz")
    plant_in_nifti(tmp_path / "scan.nii.gz")
    (folder / "scan.nii").write_bytes(gzip.decompress((tmp_path / "scan.nii.gz").read_bytes()))
    planted = {
        **dict.fromkeys(("PatientName", "ReferringPhysicianName", "SeriesDescription"), SECRETS[0]),
        **dict.fromkeys(("PatientID", "AccessionNumber", "StudyID"), SECRETS[1]),
        **dict.fromkeys(("PatientBirthDate", "StudyDate"), SECRETS[2]),
    }
    write_series(folder / "series", 3, size=12, **planted)
    assert len(holders(folder.rglob("*.*"))) == 5
    assert command([folder]) == 0
    written = list((tmp_path / "out").rglob("*"))
    assert {"labels.dcm", "labels.nii.gz", "overlay.png"} <= {path.name for path in written}
    inflated = "".join(gzip.decompress(path.read_bytes()).decode("latin-1") for path in written if path.suffix == ".gz")
    assert holders(written, inflated + caplog.text + "".join(capfd.readouterr())) == []
    assert command([folder / "series"], "--identity", "keep", "--overwrite") == 0
    kept = pydicom.dcmread(tmp_path / "out" / "series" / "labels.dcm")
    assert str(kept.PatientName) == SECRETS[0]
    others = [path for path in (tmp_path / "out").rglob("*") if path.name != "labels.dcm"]
    assert holders(others) == []


def test_not_a_number_is_background_and_counted(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    values = blobs(3, 16, 16).astype(np.float32)
    values[0, :2] = np.nan
    nib.save(nib.Nifti1Image(values.T, np.eye(4)), tmp_path / "holes.nii")
    nib.save(nib.Nifti1Image(np.full((16, 16, 3), np.nan, np.float32), np.eye(4)), tmp_path / "void.nii")
    assert command([tmp_path / "holes.nii"]) == 0
    assert "note: 32 voxels that were not finite" in capsys.readouterr().out
    assert command([tmp_path / "void.nii"]) == 2


@pytest.mark.parametrize(
    ("words", "texts", "message"),
    [
        ([], [], "say what to look for"),
        ([], [" "], "one is empty"),
        ([], ["liver", "LIVER"], "is given twice"),
        (["--modality", "knee MRI"], ["liver"], "'knee MRI' is unknown; known: any, cardiac MRI"),
        (["--window", "bright"], ["liver"], "window: 'bright'"),
        (["--device", "abacus"], ["liver"], "device: 'abacus'"),
        (["--checkpoint", "gone.ckpt"], ["liver"], "No checkpoint at gone.ckpt"),
        (["--method", "gone.yaml"], ["liver"], "gone.yaml: the file cannot be read"),
        (["--prompts", "gone.yaml"], ["liver"], "gone.yaml: the prompts cannot be read"),
    ],
)
def test_wrong_options_are_named(
    command: Command,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    texts: list[str],
    message: str,
):
    assert command([write_picture(tmp_path / "chest.png")], *words, texts=texts) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert not list(tmp_path.glob("out/*"))


def test_bad_single_inputs_are_named(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    huge = tmp_path / "huge.png"
    Image.new("1", (20_000, 20_000)).save(huge)
    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    (tmp_path / "damaged.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"x" * 50)
    for name, message in (
        ("huge.png", "over the limit of 89,478,485 pixels; scale it down"),
        ("dot.png", "1 x 1 pixels; at least 8 x 8"),
        ("damaged.dcm", "damaged.dcm"),
        ("gone.png", "no such file"),
    ):
        assert command([tmp_path / name]) == 2
        shown = capsys.readouterr().err
        assert message in shown
        assert "Traceback" not in shown


def test_an_output_folder_that_cannot_be_written(command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "out").write_text("a file stands where the folder should be")
    assert command([write_picture(tmp_path / "chest.png")]) == 2
    assert f"output: {tmp_path / 'out'} cannot be written to" in capsys.readouterr().err


def test_an_interrupted_write_leaves_nothing(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from medzeroseg.inference import outputs

    def broken(result: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(outputs, "draw_overlay", broken)
    assert command([write_picture(tmp_path / "chest.png")]) == 130
    assert list((tmp_path / "out").iterdir()) == []


def test_importing_the_package_is_light():
    code = "import medzeroseg, sys; medzeroseg.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, env={**os.environ}).returncode == 0
    assert callable(medzeroseg.segment)
    with pytest.raises(AttributeError):
        _ = medzeroseg.nothing
