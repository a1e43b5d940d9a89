"""Every experiment that trains on masks runs through `main()` on generated data: labelled, trained, scored."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml

from medzeroseg.errors import NonFiniteLossError
from medzeroseg.figures import read_slices
from medzeroseg.main import main
from medzeroseg.tables import read_segmentation_records
from medzeroseg.tasks import SegmentationTask
from tests.helpers.fake_masks import link_checkpoints, write_mask_inputs

FOLDER = Path(__file__).parent.parent / "experiments"
FULL = sorted(path.stem for path in FOLDER.glob("*_full.yaml"))
TAUGHT = sorted(path.stem for pattern in ("*_weak", "*_misnet*") for path in FOLDER.glob(f"{pattern}.yaml"))
DATA, MODEL = "--data.init_args.", "--model.init_args."
SIZES = {
    "phantom_acdc": {"training": 3, "testing": 1},
    "phantom_synapse": {"volumes": 5, "slice_size_px": 64},
    "phantom_covid_qu_ex": {"train": 3, "validation": 3, "test": 3},
}
# one of each kind; the others are alike but for their data
QUICK = ("samples_acdc_full", "samples_covid_qu_ex_weak", "acdc_dynunet_full", "covid_qu_ex_misnet", "covid_qu_ex_weak")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mask_inputs(tmp_path_factory.mktemp("masks"), FOLDER.parent)


def run(experiment: str, inputs: Path, runs: Path, extra: Sequence[str] = (), options: Sequence[str] = ()) -> int:
    """`medzeroseg train` on the generated data, in the fewest and smallest steps."""
    link_checkpoints(inputs, runs)
    data = yaml.safe_load((FOLDER / f"{experiment}.yaml").read_text(encoding="utf-8"))["data"]
    dataset = Path(data).stem.removeprefix("data_")
    words = [
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=2",
        "--trainer.log_every_n_steps=1",
        f"--runs_dir={runs}",
        f"{DATA}image_size_px=32",
        f"{DATA}batch_size=2",
        f"{DATA}num_workers=0",
        f"{DATA}cache_dir={runs / 'cache'}",
        *(f"{DATA}max_{split}_cases={2 if split == 'train' else 1}" for split in ("train", "val", "test")),
    ]
    if dataset.startswith("phantom"):
        words += [f"{DATA}root={inputs / dataset}", f"{DATA}phantom_workers=0"]
        words += [f"{DATA}{name}={size}" for name, size in SIZES[dataset].items()]
    widths = "filters=[4,8,8,8]" if "dynunet" in experiment else "channels=[4,8,8]"
    words += [f"{MODEL}network.init_args.{widths}"]
    if experiment in TAUGHT:
        words += [f"{MODEL}teacher.init_args.compare_with=[]"]
        if not dataset.startswith(("phantom", "samples")):
            words += [f"{MODEL}teacher.init_args.model.init_args.name=local-dir:{inputs / 'clip'}"]
        if experiment.startswith(("phantom", "samples")) and "misnet" in experiment:
            words += [f"{MODEL}teacher.init_args.method.init_args.saliency.init_args.channels=4"]
        words += [f"{MODEL}teacher.init_args.folder={runs / 'pseudo_masks'}"]
    return main(["train", experiment, *options, "--", *words, *extra])


@pytest.fixture
def environment(inputs: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a user's variables point to."""
    monkeypatch.chdir(project_root)
    for name, folder in {"DATA_ROOT": "data", "REAL_SAMPLES": "samples", "SAM_MODEL": "sam"}.items():
        monkeypatch.setenv(name, str(inputs / folder))


def test_every_dataset_has_its_rows() -> None:
    real = ("acdc", "synapse", "covid_qu_ex")
    phantoms = [f"phantom_{name}" for name in real]
    samples = [f"samples_{name}" for name in ("acdc", "covid_qu_ex", "sunnybrook")]
    full = {f"{name}_full" for name in (*real, *phantoms, *samples)}
    full |= {f"{name}_dynunet_full" for name in (*real, "phantom_acdc")}
    taught = {f"{name}_weak" for name in (*real, *phantoms, *samples)}
    taught |= {f"{name}_misnet" for name in (*real, *phantoms, *samples)} | {f"{name}_misnet_gradcam" for name in real}
    assert full == set(FULL)
    assert taught == set(TAUGHT)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    "experiment",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in [*FULL, *TAUGHT]],
)
def test_experiment_trains_on_masks_and_is_recorded(experiment: str, inputs: Path, tmp_path: Path) -> None:
    assert run(experiment, inputs, tmp_path) == 0
    [record] = read_segmentation_records(tmp_path)
    assert (record.experiment, record.seed) == (experiment, 0)
    [method] = record.methods
    assert method.labels_used == (experiment in FULL)
    with_evidence = experiment.startswith(("phantom", "samples")) and experiment.endswith("_weak")
    assert method.chosen_on_validation == with_evidence
    assert record.supervision == ("full" if experiment in FULL else "weak")
    assert (method.table3_row is None) == ("misnet" in experiment)
    assert not method.reveals_ground_truth
    assert method.minutes > 0
    cases = {score.case_id for score in record.scores}
    structures = {score.structure for score in record.scores}
    assert len(record.scores) == len(cases) * len(structures) > 0
    kept = read_slices(tmp_path / experiment / "seed_0")
    assert kept is not None
    assert {one.case_id for one in kept.slices} == cases
    assert all(list(one.masks) == [method.method] and not one.maps for one in kept.slices)
    checkpoints = tmp_path / experiment / "seed_0" / "checkpoints"
    assert {path.name for path in checkpoints.iterdir()} == {"best.ckpt", "last.ckpt"}
    weights = torch.load(checkpoints / "best.ckpt", weights_only=True)["state_dict"]
    assert all(name.startswith("network.") for name in weights)
    if experiment in TAUGHT:
        [folder] = (tmp_path / "pseudo_masks").iterdir()
        written = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        released = written["checkpoint"] is None
        assert released == ("misnet" in experiment and not experiment.startswith(("phantom", "samples")))
        assert len(list(folder.glob("*.npy"))) == 3


@pytest.mark.usefixtures("environment")
def test_a_training_shorter_than_the_way_to_its_first_validation_is_validated_at_its_end(
    inputs: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert run("samples_covid_qu_ex_full", inputs, tmp_path, ["--trainer.check_val_every_n_epoch=4"]) == 0
    assert "check_val_every_n_epoch=4 is more than this run's epochs (1)" in caplog.text
    folder = tmp_path / "samples_covid_qu_ex_full/seed_0"
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    written = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert written["trainer"]["check_val_every_n_epoch"] == 1


@pytest.mark.usefixtures("environment")
def test_an_interrupted_weak_run_goes_on_with_the_masks_it_has(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extra = ["--trainer.max_epochs=2"]
    assert run("samples_covid_qu_ex_weak", inputs, tmp_path / "whole", extra) == 0
    with monkeypatch.context() as patch:
        patch.setattr(SegmentationTask, "on_train_epoch_start", _stop_in_the_second_epoch)
        assert run("samples_covid_qu_ex_weak", inputs, tmp_path / "broken", extra) == 1
    masks = {path: path.stat().st_mtime_ns for path in (tmp_path / "broken" / "pseudo_masks").rglob("*.*")}
    assert run("samples_covid_qu_ex_weak", inputs, tmp_path / "broken", extra, ["--resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in masks} == masks
    last = "samples_covid_qu_ex_weak/seed_0/checkpoints/last.ckpt"
    states = [torch.load(tmp_path / name / last, weights_only=True)["state_dict"] for name in ("whole", "broken")]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def _stop_in_the_second_epoch(task: SegmentationTask) -> None:
    if task.current_epoch == 1:
        raise NonFiniteLossError("stopped by the test")


@pytest.mark.slow
@pytest.mark.usefixtures("environment")
def test_two_processes_label_train_and_record_once(inputs: Path, tmp_path: Path, project_root: Path) -> None:
    import subprocess
    import sys

    more = [f"--trainer.{word}" for word in ("devices=2", "strategy=ddp")]
    more += [f"{DATA}max_{split}_cases=2" for split in ("val", "test")]
    more.append(f"{DATA}batch_size=1")  # the training split has a slice for each process
    code = (
        "import sys; from pathlib import Path; from tests.test_mask_experiments import run; "
        f"sys.exit(run('samples_covid_qu_ex_weak', Path(sys.argv[1]), Path(sys.argv[2]), {more}))"
    )
    script = tmp_path / "run.py"  # the second process is started by the same command line
    script.write_text(code, encoding="utf-8")
    variables = os.environ | {"PYTHONPATH": str(project_root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(inputs), str(tmp_path / "runs")]
    result = subprocess.run(
        command, cwd=project_root, env=variables, capture_output=True, text=True, check=False, timeout=250
    )
    assert result.returncode == 0, result.stderr[-3000:]
    [record] = read_segmentation_records(tmp_path / "runs")
    assert record.environment["world_size"] == "2"
    assert len({score.case_id for score in record.scores}) == 2
