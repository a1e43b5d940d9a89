"""Every shipped experiment runs through `main()`: fit, test with the best checkpoint, tables."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import yaml

from medzeroseg.dashboard import LAYOUT
from medzeroseg.errors import NonFiniteLossError
from medzeroseg.main import main
from medzeroseg.models import ImageTextModel
from medzeroseg.tables import read_records
from medzeroseg.tasks import ContrastiveTask
from tests.helpers.fake_captioned import write_medpix, write_roco_v2
from tests.helpers.fake_data import write_real_samples, write_roco
from tests.helpers.fake_models import write_biomedclip_folder, write_pmc_clip_folder

ALL = sorted(path.stem for path in (Path(__file__).parent.parent / "experiments").glob("*.yaml"))
# those that segment have tests of their own
SEGMENTING = ("_zeroshot", "_full", "_weak", "_misnet", "_misnet_gradcam")
EXPERIMENTS = [name for name in ALL if not name.endswith(SEGMENTING)]
UNPUBLISHED = ("roco_v2", "medpix")  # no figures of the publication are on these
NAME = "--model.init_args.model.init_args.name"
DATA = "--data.init_args."
SMALL_RUN = [
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    f"{DATA}batch_size=4",
    f"{DATA}num_workers=0",
]


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generated data and random-weight models, in the layouts of the real ones."""
    root = tmp_path_factory.mktemp("inputs")
    write_roco(root / "roco", train=8, validation=4, test=6)
    write_roco_v2(root / "roco_v2")
    write_medpix(root / "medpix")
    write_real_samples(root / "real_samples")
    write_biomedclip_folder(root / "biomedclip")
    write_pmc_clip_folder(root / "pmc_clip")
    torch.save(ImageTextModel("small").clip.state_dict(), root / "clip.pt")
    return root


def overrides(experiment: str, inputs: Path) -> list[str]:
    """Point an experiment at the generated inputs: only paths, the model's folder, and sizes."""
    if experiment.startswith("phantom"):
        sizes = [f"{DATA}train=8", f"{DATA}validation=4", f"{DATA}test=6", f"{DATA}phantom_workers=0"]
        return [f"{DATA}root={inputs / 'phantom'}", *sizes]
    if experiment.startswith("real_samples"):
        return [f"{DATA}root={inputs / 'real_samples'}"]
    model = {
        # as one reads OpenAI's weights from a file: the name of the architecture and the file
        "roco_clip_pretrained": [f"{NAME}=small", f"{NAME[:-4]}pretrained={inputs / 'clip.pt'}"],
        "roco_pmc_clip_pretrained": [f"{NAME}=pmc-clip:{inputs / 'pmc_clip'}"],
    }.get(experiment, [f"{NAME}=local-dir:{inputs / 'biomedclip'}"])
    dataset = next((name for name in UNPUBLISHED if experiment.startswith(name)), "roco")
    return [f"{DATA}root={inputs / dataset}", *model]


def run(experiment: str, inputs: Path, runs: Path, extra: Sequence[str] = (), options: Sequence[str] = ()) -> int:
    """`medzeroseg train` with the small run's settings."""
    small = [word for word in SMALL_RUN if not (experiment.endswith("pretrained") and "max_epochs" in word)]
    words = [*small, *overrides(experiment, inputs), f"--runs_dir={runs}", *extra]
    return main(["train", experiment, *options, "--", *words])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_trains_and_writes_its_table(
    experiment: str, inputs: Path, tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_root)
    assert run(experiment, inputs, tmp_path) == 0
    [record] = read_records(tmp_path)
    assert (record.experiment, record.seed) == (experiment, 0)
    assert record.test_pairs == len(record.ranks) > 0
    assert 0 <= record.metrics["i2t_top1"] <= 100
    published = not experiment.startswith(UNPUBLISHED)
    assert (record.published_row is not None) == published
    table = json.loads((tmp_path / experiment / "tables" / "table1.json").read_text(encoding="utf-8"))
    pairs = record.test_pairs
    assert [row["gallery"] for row in table["rows"]] == [f"all {pairs}", f"of {min(50, pairs)}"]
    assert (table["rows"][1]["published"] is not None) == published
    seed = tmp_path / experiment / "seed_0"
    trained = not experiment.endswith("_pretrained")
    assert (record.fit_minutes > 0) == trained
    assert (seed / "checkpoints" / "best.ckpt").is_file() == trained
    assert (seed / "pair_sheet.png").is_file() == trained
    saved = yaml.safe_load((seed / "config.yaml").read_text(encoding="utf-8"))
    assert saved["experiment"] == experiment


def test_there_is_a_row_for_every_loss_and_model_of_table1() -> None:
    losses = ("infonce", "dcl", "hn_nce", "dhn_nce", "cehnc")
    expected = {f"{dataset}_{loss}" for dataset in ("phantom", "roco") for loss in losses}
    expected |= {f"roco_{model}_pretrained" for model in ("clip", "pmc_clip", "biomedclip")}
    expected |= {f"{dataset}_cehnc" for dataset in ("real_samples", *UNPUBLISHED)} | {"real_samples_infonce"}
    expected |= {"roco_dpfem", "real_samples_dpfem"}
    expected |= {f"phantom_dpfem{paths}" for paths in ("", "_concat", "_local", "_global")}
    assert expected == set(EXPERIMENTS)


def test_checkpoint_holds_loss_state_and_configuration_and_nothing_but_data(
    inputs: Path, tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_root)
    adaptive = "--model.init_args.loss.init_args.lambda_update=adaptive"
    assert run("phantom_cehnc", inputs, tmp_path, [adaptive]) == 0
    path = tmp_path / "phantom_cehnc" / "seed_0" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["config"]["model"]["init_args"]["loss"]["class_path"] == "medzeroseg.losses.CEHNCLoss"
    start = checkpoint["config"]["model"]["init_args"]["loss"]["init_args"]
    names = ("lambda_image_to_text", "lambda_text_to_image")
    assert all(float(checkpoint["state_dict"][f"loss.{name}"]) != start[name] for name in names)


def test_resume_ends_where_an_unbroken_run_ends(
    inputs: Path, tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_root)
    extra = ["--model.init_args.loss.init_args.lambda_update=adaptive", "--trainer.max_epochs=2"]
    assert run("phantom_cehnc", inputs, tmp_path / "whole", extra) == 0
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    with monkeypatch.context() as patch:
        patch.setattr(ContrastiveTask, "on_train_epoch_start", _stop_in_the_second_epoch)
        assert run("phantom_cehnc", inputs, tmp_path / "broken", extra) == 1
    folder = tmp_path / "broken" / "phantom_cehnc" / "seed_0"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")  # a job that Slurm has started again resumes unasked
    assert run("phantom_cehnc", inputs, tmp_path / "broken", extra) == 0
    checkpoints = [
        torch.load(root / "phantom_cehnc/seed_0/checkpoints/last.ckpt", weights_only=True)
        for root in (tmp_path / "whole", tmp_path / "broken")
    ]
    assert [checkpoint["global_step"] for checkpoint in checkpoints] == [4, 4]
    states = [checkpoint["state_dict"] for checkpoint in checkpoints]
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key
    assert len(list((folder / "csv").iterdir())) == 2  # the rows of the first part are still there
    assert not (folder.parent / "archive").exists()
    assert [len(read_records(tmp_path / name)) for name in ("whole", "broken")] == [1, 1]


def _stop_in_the_second_epoch(task: ContrastiveTask) -> None:
    if task.current_epoch == 1:
        raise NonFiniteLossError("stopped by the test")


def test_a_finished_seed_is_not_resumed_and_a_new_run_archives_it(
    inputs: Path, tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_root)
    assert run("phantom_infonce", inputs, tmp_path) == 0
    best = tmp_path / "phantom_infonce" / "seed_0" / "checkpoints" / "best.ckpt"
    written = best.stat().st_mtime_ns
    assert run("phantom_infonce", inputs, tmp_path, options=["--resume"]) == 0
    assert best.stat().st_mtime_ns == written
    assert run("phantom_infonce", inputs, tmp_path) == 0
    [archived] = (tmp_path / "phantom_infonce" / "archive").iterdir()
    assert (archived / "checkpoints" / "best.ckpt").stat().st_mtime_ns == written
    table = json.loads((tmp_path / "phantom_infonce" / "tables" / "table1.json").read_text(encoding="utf-8"))
    assert [row["seeds"] for row in table["rows"]] == [[0], [0]]  # one row a gallery; the archived run is no seed
    assert len(read_records(tmp_path)) == 1


def test_a_job_that_is_started_again_before_it_began_its_run_leaves_earlier_runs_alone(
    inputs: Path, tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project_root)
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    assert run("phantom_infonce", inputs, tmp_path) == 0
    folder = tmp_path / "phantom_infonce" / "seed_0"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    written = (folder / "starts.json").read_bytes()
    assert run("phantom_infonce", inputs, tmp_path) == 0
    assert (folder / "starts.json").read_bytes() == written  # its own, which is finished
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    assert run("phantom_infonce", inputs, tmp_path) == 0
    [start] = json.loads((folder / "starts.json").read_text(encoding="utf-8"))
    assert (start["slurm"]["job_id"], start["from_checkpoint"]) == ("42", None)
    [archived] = (folder.parent / "archive").iterdir()
    assert (archived / "starts.json").read_bytes() == written


def test_three_seeds_make_one_row_with_a_spread(
    inputs: Path,
    tmp_path: Path,
    project_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project_root)
    assert run("phantom_cehnc", inputs, tmp_path, options=["--seeds", "0", "1", "2"]) == 0
    table = json.loads((tmp_path / "phantom_cehnc" / "tables" / "table1.json").read_text(encoding="utf-8"))
    assert table["rows"][0]["seeds"] == [0, 1, 2]
    assert len(table["rows"][0]["config_hashes"]) == 1
    assert "CEHNC" in capsys.readouterr().out
    assert main(["tables", "--runs", str(tmp_path)]) == 0
    merged = json.loads((tmp_path / "tables" / "table1.json").read_text(encoding="utf-8"))
    assert merged["rows"][0]["metrics"] == table["rows"][0]["metrics"]


def test_predict_writes_embeddings(
    inputs: Path, tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file

    monkeypatch.chdir(project_root)
    words = [*SMALL_RUN, *overrides("phantom_cehnc", inputs), f"--runs_dir={tmp_path}"]
    assert main(["predict", "--config", "experiments/phantom_cehnc.yaml", *words, "--return_predictions=false"]) == 0
    tensors = load_file(tmp_path / "phantom_cehnc" / "seed_0" / "embeddings.safetensors")
    assert tensors["image_embeddings"].shape == tensors["text_embeddings"].shape
    assert tensors["index"].tolist() == list(range(6))
    torch.testing.assert_close(tensors["image_embeddings"].norm(dim=1), torch.ones(6))


def test_everything_that_is_watched_reaches_tensorboard(
    inputs: Path, tmp_path: Path, project_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(project_root)
    assert run("phantom_cehnc", inputs, tmp_path) == 0
    events = EventAccumulator(str(tmp_path / "phantom_cehnc" / "seed_0" / "tensorboard"))
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    train = {"loss", "grad_norm", "logit_scale", "effective_negatives", "hard_fraction", "window_loss"}
    train |= {"lambda_image_to_text", "lambda_text_to_image", "samples_per_s", "data_wait", "memory_gib"}
    assert {f"train/{name}" for name in train} <= scalars
    recalls = {f"{d}_top{k}{of}" for d in ("i2t", "t2i") for k in (1, 2, 5, 10) for of in ("", "_of50")}
    assert {f"{split}/{name}" for split in ("val", "test") for name in recalls} <= scalars
    assert any(name.startswith("lr-AdamW") for name in scalars)
    assert set(events.Tags()["images"]) == {"val/pairs", "val/saliency"}
    assert 0 <= events.Scalars("train/data_wait")[0].value <= 1
    # every chart for pairs finds its curves: a metric that is renamed must be renamed there, too
    for group in ("Retrieval", "Loss", "System"):
        for chart, (_, patterns) in LAYOUT[group].items():
            for pattern in patterns:
                there = any(re.match(pattern, name) for name in scalars)
                assert there or pattern == r"train/gpu_memory_gib$", f"{group}: {chart}: no curve matches {pattern}"
    [projected] = (tmp_path / "phantom_cehnc" / "seed_0" / "tensorboard").glob("*/test/metadata.tsv")
    rows = projected.read_text(encoding="utf-8").splitlines()
    assert rows[0] == "kind\tcase\tcaption"
    assert [row.split("\t")[0] for row in rows[1:]] == ["image"] * 6 + ["text"] * 6


SWITCHES = [
    "--model.init_args.towers.freeze_text=1",
    "--model.init_args.towers.layer_decay=0.9",
    "--model.init_args.towers.gradient_checkpointing=[image,text]",
    "--model.init_args.performance.channels_last=true",
    "--model.init_args.performance.compile=true",
    "--model.init_args.performance.compile_backend=eager",
    "--trainer.callbacks+=medzeroseg.callbacks.WeightAverage",
]


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "switches"), [(2, []), (3, []), (2, SWITCHES)])
def test_several_processes_train_and_write_one_table(
    ranks: int, switches: list[str], inputs: Path, tmp_path: Path, project_root: Path
) -> None:
    """The splits do not divide: ranks have different numbers of batches, and one of a single pair."""
    import subprocess
    import sys

    words = [*SMALL_RUN, *overrides("phantom_cehnc", inputs), f"--runs_dir={tmp_path}"]
    words += [f"{DATA}{size}" for size in ("train=12", "validation=7", "test=7", "batch_size=2", "eval_batch_size=2")]
    words += [
        f"{DATA}root={inputs / 'phantom_uneven'}",
        f"--trainer.devices={ranks}",
        "--trainer.strategy=ddp",
        *switches,
    ]
    command = [Path(sys.executable).with_name("medzeroseg"), "train", "phantom_cehnc", "--", *words]
    result = subprocess.run(command, cwd=project_root, capture_output=True, text=True, check=False, timeout=250)
    assert result.returncode == 0, result.stderr
    [record] = read_records(tmp_path)
    assert record.environment["world_size"] == str(ranks)
    assert record.test_pairs == len(record.ranks) == 7
    assert not (tmp_path / "phantom_cehnc" / "archive").exists()
