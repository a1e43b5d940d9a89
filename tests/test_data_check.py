"""`medzeroseg data check`: exit codes, screen, JSON, and that no header reaches either."""

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data_modules.check.registry import DATASETS
from medzeroseg.main import main
from tests.helpers.fake_captioned import write_medpix, write_roco_v2
from tests.helpers.fake_data import write_covid_qu_ex, write_roco
from tests.helpers.fake_dicom import write_series
from tests.helpers.fake_segmentation import describe, write_acdc, write_nifti
from tests.helpers.identity import SECRETS, plant_in_nifti


@pytest.fixture(autouse=True)
def width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def check(*words: object) -> int:
    return main(["data", "check", *map(str, words)])


def refuse(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert check(*words) == 2
    message = capsys.readouterr().err
    assert message.startswith("medzeroseg: data check: ")
    assert "Traceback" not in message
    return message


def test_help_lists_the_datasets_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        check("--help")
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown and dataset.about in shown for name, dataset in DATASETS.items())
    assert "exit code: 0 ready" in shown


def test_a_good_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_roco_v2(tmp_path / "data")
    assert check("roco_v2", tmp_path / "data", "--json", tmp_path / "out" / "report.json", "--workers", 2) == 0
    shown = capsys.readouterr().out
    assert "Ready to train: 0 errors, 0 warnings. Read 18 cases" in shown
    assert max(map(len, shown.splitlines())) <= 100
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert (report["dataset"], report["errors"], report["warnings"], report["workers"]) == ("roco_v2", 0, 0, 2)
    assert {split: one["cases"] for split, one in report["splits"].items()} == {"train": 8, "val": 4, "test": 6}
    assert report["splits"]["test"]["shapes_px"] == [{"height": 40, "width": 48, "cases": 6}]
    assert report["bytes_read"] == sum(path.stat().st_size for path in (tmp_path / "data").rglob("*.jpg"))
    assert os.listdir(tmp_path / "out") == ["report.json"]  # noqa: PTH208 - names, hidden ones too


def test_a_dataset_with_faults_is_read_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_covid_qu_ex(tmp_path / "covid", count=4)
    first, second, *_ = sorted(root.rglob("Train/*/images/*.png"))
    first.write_bytes(b"")
    second.write_bytes(second.read_bytes()[:200])
    options = ["covid_qu_ex", root, "--option", "test_folder=Val"]
    assert check(*options, "--json", tmp_path / "report.json") == 1
    shown = capsys.readouterr().out
    assert "Not ready: 1 error" in shown
    assert str(first).replace(" ", "") in "".join(shown.split())  # folded, not cut short
    assert "ERROR" in shown
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    [error] = [finding for finding in report["findings"] if finding["severity"] == "error"]
    assert error["code"] == "case_unusable"
    assert len(error["case_ids"]) == len(error["details"]) == 2
    assert str(first) in error["details"][0]
    assert "0 bytes" in error["details"][0]
    assert sum(split["cases"] for split in report["splits"].values()) == 24
    assert report["options"] == {"test_folder": "Val"}
    # Left out on request, they are a warning.
    assert check(*options, "--option", "corrupt=skip") == 0
    assert "Ready to train: 0 errors" in capsys.readouterr().out


def test_splits_and_a_second_root(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_roco(tmp_path / "v1", train=0, validation=0)
    assert check("roco", tmp_path / "v1") == 1
    assert check("roco", tmp_path / "v1", "--splits", "test") == 0
    write_medpix(tmp_path / "medpix")
    capsys.readouterr()
    assert check("roco", tmp_path / "v1", "--splits", "test", "--against", "medpix", tmp_path / "medpix") == 0
    assert "copy_in_other_root" not in capsys.readouterr().out
    stolen = next((tmp_path / "v1").rglob("*.jpg")).read_bytes()
    (tmp_path / "medpix/images/synpic101.jpg").write_bytes(stolen)
    against = ["--against", "medpix", tmp_path / "medpix", "--against-option", "train_fraction=0.999999"]
    assert check("roco", tmp_path / "v1", "--splits", "test", *against) == 1
    assert "is train/synpic101 of medpix" in " ".join(capsys.readouterr().out.split())


def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean roco" in refuse(capsys, "rocco", tmp_path)
    assert "there is no folder" in refuse(capsys, "roco", tmp_path / "nowhere")
    assert "there is no folder" in refuse(capsys, "roco", tmp_path, "--against", "roco_v2", tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "cannot be listed (Not a directory)" in refuse(capsys, "roco", tmp_path / "file")
    assert "--workers" in refuse(capsys, "roco", tmp_path, "--workers", 0)
    assert "did you mean missing" in refuse(capsys, "roco", tmp_path, "--option", "mising=skip")
    assert "no ImageTextDataModule" in refuse(capsys, "data_modules.pairs.PictureFile", tmp_path)
    with pytest.raises(SystemExit, match="2"):
        check("roco")


def test_a_report_that_cannot_be_written_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_roco(tmp_path / "roco")
    (tmp_path / "out").touch()
    assert check("roco", tmp_path / "roco", "--json", tmp_path / "out" / "report.json") == 2
    assert "Cannot write" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="the super-user may read everything")
def test_a_root_that_may_not_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_roco(tmp_path / "roco")
    root.chmod(0)
    try:
        assert "Permission denied" in refuse(capsys, "roco", root)
    finally:
        root.chmod(0o755)


def test_a_root_that_may_not_be_read_simulated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbid(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", forbid)
    assert "cannot be listed (Permission denied)" in refuse(capsys, "roco", tmp_path)


def test_nothing_of_a_nifti_header_reaches_screen_log_or_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    root = write_acdc(tmp_path / "acdc")
    for path in root.rglob("*frame*.nii.gz"):
        plant_in_nifti(path)
    frames = sorted(root.rglob("patient*_frame??.nii.gz"))
    assert SECRETS[0].encode() in bytes(nib.load(frames[0]).header["descrip"].item())
    frames[1].write_bytes(frames[1].read_bytes()[:400])  # a truncated one
    write_nifti(frames[2].with_name(f"{frames[2].name[:-7]}_gt.nii.gz"), np.full((2, 3, 3), 9, np.uint8))
    assert check("acdc", root, "--json", tmp_path / "report.json") == 1
    _search(capsys, caplog, tmp_path / "report.json")


def test_nothing_of_a_dicom_header_reaches_screen_log_or_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    planted = {
        "PatientName": SECRETS[0],
        "PatientID": SECRETS[1],
        "PatientBirthDate": SECRETS[2],
        "StudyDescription": SECRETS[0],
        "AccessionNumber": SECRETS[1],
    }
    for name in ("c1", "c2", "c3", "c4"):
        write_series(tmp_path / "data/images" / name, **planted)
        write_nifti(tmp_path / f"data/labels/{name}.nii.gz", np.zeros((5, 8, 8), np.uint8))
    damaged = sorted((tmp_path / "data/images/c2").iterdir())[0]
    content = damaged.read_bytes()
    assert SECRETS[0].encode() in content
    damaged.write_bytes(content.replace(SECRETS[2].encode(), b"notadate").replace(b"DS", b"UI"))
    cut = sorted((tmp_path / "data/images/c3").iterdir())[0]
    cut.write_bytes(cut.read_bytes()[:-40])
    describe(
        tmp_path / "data",
        {
            "labels": {1: "liver"},
            "images": "images/{id}/",
            "masks": "labels/{id}.nii.gz",
            "splits": {"train": ["c1", "c2"], "val": ["c3"], "test": ["c4"]},
        },
    )
    assert check("folder", tmp_path / "data", "--json", tmp_path / "report.json") == 1
    _search(capsys, caplog, tmp_path / "report.json")


def _search(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, report: Path) -> None:
    captured = capsys.readouterr()
    outputs = "".join((captured.out + captured.err + caplog.text + report.read_text(encoding="utf-8")).split())
    assert "case_unusable" in outputs
    for secret in (*SECRETS, "DOE", "4711"):
        assert secret not in outputs


def test_the_check_can_be_used_with_a_module_of_ones_own(tmp_path: Path) -> None:
    from tests.helpers.fake_segmentation import write_cases

    write_cases(tmp_path, {"train": ["p1_a"], "val": ["p2_a"], "test": ["p3_a"]})
    assert check("tests.helpers.fake_segmentation.ArraysDataModule", tmp_path) == 0


def test_real_samples(real_samples: Path, tmp_path: Path) -> None:
    words = ["roco", real_samples / "roco_v1_six", "--splits", "test", "--json", tmp_path / "roco.json"]
    assert check(*words) == 0
    report = json.loads((tmp_path / "roco.json").read_text(encoding="utf-8"))
    assert report["splits"]["test"]["cases"] == 6
    assert report["findings"] == []


def test_a_folder_without_a_description_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("folder", tmp_path) == 1
    assert "dataset.yaml" in capsys.readouterr().out
