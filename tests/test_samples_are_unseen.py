"""No patient on whom the real samples' zero-shot experiments test is in the training that made their model."""

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from data_modules import RealSamplesDataModule
from data_modules.segmentation import SegmentationDataModule
from tests.helpers.fake_data import write_real_samples
from tests.helpers.fake_zero_shot import write_all_organs

FOLDERS = {"acdc": "acdc_h5", "covid_qu_ex": "covid_qu_ex", "sunnybrook": "sunnybrook", "ct": "."}
TRAINED_ON = "ct"


@pytest.fixture(params=["generated", "real"])
def samples(request: pytest.FixtureRequest, tmp_path: Path, project_root: Path) -> Path:
    if request.param == "real":
        real: Path = request.getfixturevalue("real_samples")
        return real
    root = write_real_samples(tmp_path / "samples")
    write_all_organs(root, project_root)
    return root


def experiment(project_root: Path, name: str) -> dict[str, Any]:
    path = project_root / "experiments" / f"samples_{name}_zeroshot.yaml"
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def data_of(project_root: Path, name: str, samples: Path, cache: Path) -> SegmentationDataModule:
    """The data module of an experiment, as its file has it, on other folders."""
    data = experiment(project_root, name)["data"]
    package, _, kind = data["class_path"].rpartition(".")
    options = data["init_args"] | {"root": samples / FOLDERS[name], "cache_dir": cache}
    if "description" in options:
        options["description"] = project_root / options["description"]
    module: SegmentationDataModule = getattr(import_module(package), kind)(**options)
    return module


@cache
def trained(project_root: Path, samples: Path) -> RealSamplesDataModule:
    """The pairs that `real_samples_cehnc` trains and chooses its checkpoint on, indexed."""
    path = project_root / "experiments" / "real_samples_cehnc.yaml"
    options = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]["init_args"]
    options.pop("windows")  # they choose no pictures, and the command line makes them from plain values
    module = RealSamplesDataModule(**(options | {"root": samples, "seed": 0}))
    module.index_split("train")
    module.index_split("val")
    return module


def files(patients: Iterator[str], folder: Path) -> set[str]:
    return {
        hashlib.sha256(next(folder.rglob(f"{name}/images/{stem}.png")).read_bytes()).hexdigest()
        for name, _, stem in (patient.rpartition("/") for patient in patients)
    }


def test_no_test_patient_was_trained_on(samples: Path, project_root: Path, tmp_path: Path) -> None:
    seen = trained(project_root, samples).patients
    both = seen["train"] | seen["val"]
    for name in set(FOLDERS) - {TRAINED_ON}:
        cases = data_of(project_root, name, samples, tmp_path).index_split("test").cases
        patients = {f"{FOLDERS[name]}/{case.patient}" for case in cases}
        assert patients
        # the names are comparable: there are others of the same set among those seen
        assert any(patient.startswith(f"{FOLDERS[name]}/") for patient in both)
        assert not patients & both, name


def test_no_test_xray_is_a_training_file_under_another_name(
    real_samples: Path, project_root: Path, tmp_path: Path
) -> None:
    seen = trained(project_root, real_samples).patients
    folder = real_samples / "covid_qu_ex"
    xrays = {patient.removeprefix("covid_qu_ex/") for split in ("train", "val") for patient in seen[split]}
    cases = data_of(project_root, "covid_qu_ex", real_samples, tmp_path).index_split("test").cases
    theirs = files((name for name in xrays if name.startswith("Train/")), folder)
    ours = files((case.patient for case in cases), folder)
    assert len(ours) > 200
    assert not ours & theirs


def test_the_one_ct_was_trained_on_and_its_rows_say_so(samples: Path, project_root: Path, tmp_path: Path) -> None:
    seen = trained(project_root, samples).patients
    [case] = data_of(project_root, TRAINED_ON, samples, tmp_path).index_split("test").cases
    assert f"totalsegmentator_{case.patient}/ct" in seen["train"]
    assert "trained on" in experiment(project_root, TRAINED_ON)["dataset"]
