"""What a header says of a patient reaches no checkpoint, table, picture, log or cache of a run."""

from pathlib import Path

import pytest
import yaml

from medzeroseg.main import main
from tests.helpers.fake_data import write_roco
from tests.helpers.fake_segmentation import write_acdc
from tests.helpers.fake_zero_shot import build_part, write_checkpoint
from tests.helpers.identity import holders, plant_in_jpeg, plant_in_nifti

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--data.init_args.num_workers=0"]


def test_training_on_pictures_with_exif(
    tmp_path: Path,
    project_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(project_root)
    pictures = sorted(write_roco(tmp_path / "roco", train=8, validation=4, test=6).rglob("*.jpg"))
    for path in pictures:
        plant_in_jpeg(path)
    assert len(holders(pictures)) == len(pictures)
    words = [
        *QUIET,
        "--trainer.max_epochs=1",
        "--model.init_args.model.init_args.name=small",
        f"--data.init_args.root={tmp_path / 'roco'}",
        "--data.init_args.batch_size=4",
        f"--runs_dir={tmp_path / 'runs'}",
    ]
    assert main(["train", "roco_cehnc", "--", *words]) == 0
    written = list((tmp_path / "runs").rglob("*"))
    assert {"best.ckpt", "pair_sheet.png", "table1.md", "retrieval.json"} <= {path.name for path in written}
    assert holders(written, caplog.text + "".join(capfd.readouterr())) == []


def test_segmenting_volumes_with_a_talkative_header(
    tmp_path: Path,
    project_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(project_root)
    root = write_acdc(tmp_path / "acdc")
    for path in root.rglob("*.nii.gz"):
        plant_in_nifti(path)
    write_checkpoint(tmp_path / "best.ckpt", build_part(project_root, "small"))
    experiment = yaml.safe_load(Path("experiments/phantom_covid_qu_ex_zeroshot.yaml").read_text(encoding="utf-8"))
    experiment |= {key: str(project_root / "experiments" / experiment[key]) for key in ("trainer", "model")}
    experiment["data"] = {
        "class_path": "data_modules.ACDCDataModule",
        "init_args": {"root": str(root), "image_size_px": 128, "cache_dir": str(tmp_path / "cache")},
    }
    path = tmp_path / "acdc.yaml"
    path.write_text(yaml.safe_dump(experiment), encoding="utf-8")
    checkpoint = f"--model.init_args.checkpoint={tmp_path / 'best.ckpt'}"
    assert main(["train", str(path), "--", *QUIET, checkpoint, f"--runs_dir={tmp_path / 'runs'}"]) == 0
    written = [*(tmp_path / "runs").rglob("*"), *(tmp_path / "cache").rglob("*")]
    assert {"table2.md", "segmentation_cases.csv", "image.npy"} <= {path.name for path in written}
    assert holders(written, caplog.text + "".join(capfd.readouterr())) == []
