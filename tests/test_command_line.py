"""What a person sees when the command line is used wrongly: a message, an exit code, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from medzeroseg.cli import ExperimentCLI
from medzeroseg.config_errors import explain_parser_error
from medzeroseg.errors import ConfigurationError
from medzeroseg.main import main
from tests.helpers.fake_data import RocoFaults, write_roco
from tests.test_experiments import DATA, SMALL_RUN, inputs, overrides, run

__all__ = ["inputs"]  # the fixture, shared


@pytest.fixture(autouse=True)
def at_root(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project_root)


def _fails(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == code
    message = capsys.readouterr().err
    assert message.startswith("medzeroseg: ")
    assert "Traceback" not in message
    return message


def _experiment(tmp_path: Path, old: str, new: str, base: str = "phantom_cehnc") -> Path:
    text = Path(f"experiments/{base}.yaml").read_text(encoding="utf-8")
    assert old in text
    folder = tmp_path / "experiments"
    folder.mkdir()
    (folder / "parts").symlink_to(Path("experiments/parts").resolve())
    path = folder / "mine.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_unknown_experiment_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    message = _fails(["train", "phantom_cenhc"], 2, capsys)
    assert "phantom_cenhc" in message
    assert "  phantom_cehnc\n" in message
    assert "  roco_cehnc\n" in message
    assert "  phantom_cehnc\n" in _fails(["train", ""], 2, capsys)


@pytest.mark.parametrize(
    ("old", "new", "key", "line"),
    [
        ("lambda_text_to_image", "lambda_txt_to_image", "lambda_txt_to_image", None),
        ("max_epochs: ", "max_epochs: x", "max_epochs", "max_epochs"),
        ("experiment: ", "experimemt: ", "experimemt", "experimemt"),
        ("warmup_fraction: 0.1", "warmup_fraction: fast", "warmup_fraction", "warmup_fraction"),
        ("medzeroseg.losses.CEHNCLoss", "medzeroseg.losses.CENHCLoss", "CENHCLoss", None),
        ("duplicate_texts: ignore", "duplicate_texts: drop", "duplicate_texts", "duplicate_texts"),
    ],
)
def test_a_wrong_key_is_named_with_its_file_and_line(
    old: str, new: str, key: str, line: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _experiment(tmp_path, old, new, "real_samples_cehnc")
    message = _fails(["train", str(path), "--", f"--runs_dir={tmp_path}"], 2, capsys)
    assert key in message
    rows = path.read_text(encoding="utf-8").splitlines()
    expected = next(n for n, row in enumerate(rows, 1) if (line or key) in row)
    assert f"In {path}, line {expected}" in message


def test_a_wrong_option_is_named_as_the_command_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert "In the command line: --trainer.bogus=1" in _fails(
        ["fit", "--config", "experiments/phantom_cehnc.yaml", "--trainer.bogus=1"], 2, capsys
    )
    assert "In the command line: --trainer.max_epochs=many" in _fails(
        ["fit", "--config", "experiments/phantom_cehnc.yaml", "--trainer.max_epochs=many"], 2, capsys
    )


def test_a_wrong_key_in_a_file_that_the_experiment_names_is_found(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "data.yaml").write_text("init_args:\n  rooot: x\n")
    (tmp_path / "mine.yaml").write_text("data: parts/data.yaml\n")
    message = explain_parser_error("Option 'rooot' is not accepted", ["fit", "--config", "mine.yaml"], tmp_path)
    assert "parts/data.yaml, line 2" in message


def test_an_interpolation_that_leads_nowhere_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _experiment(tmp_path, "label: ", "label: ${labell} ")
    assert "labell" in _fails(["fit", "--config", str(path)], 2, capsys)


def test_an_unreadable_configuration_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: [1,\ntrainer: {")
    assert "broken.yaml" in _fails(["train", str(broken)], 2, capsys)
    assert "nowhere.yaml" in _fails(["fit", "--config", "nowhere.yaml"], 2, capsys)


def test_a_value_that_a_class_refuses_is_named(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL_RUN, *overrides("phantom_cehnc", inputs), f"--runs_dir={tmp_path}", f"{DATA}batch_size=0"]
    assert "batch_size" in _fails(["fit", "--config", "experiments/phantom_cehnc.yaml", *words], 2, capsys)


def test_interpolation_follows_overrides_and_crosses_files(tmp_path: Path) -> None:
    words = ["fit", "--config", "experiments/phantom_cehnc.yaml", "--seed_everything=7", "--experiment=mine"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExperimentCLI, "instantiate_classes", lambda cli: None)
        patch.setattr(ExperimentCLI, "before_instantiate_classes", lambda cli: None)
        patch.setattr(ExperimentCLI, "after_instantiate_classes", lambda cli: None)
        patch.setattr(ExperimentCLI, "_run_subcommand", lambda cli, name: None)
        config = ExperimentCLI([*words, f"--runs_dir={tmp_path}"]).config.fit
    assert str(config.trainer.default_root_dir) == f"{tmp_path}/mine/seed_7"  # defaults.yaml, after the command line
    assert config.data.init_args.seed == 7  # parts/phantom_data.yaml, a file of its own
    checkpoint = next(c for c in config.trainer.callbacks if c.class_path.endswith("ModelCheckpoint"))
    assert str(checkpoint.init_args.dirpath) == f"{tmp_path}/mine/seed_7/checkpoints"  # an interpolation of one


def test_missing_data_names_folder_terms_and_the_phantom(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    message = _run_fails("roco_cehnc", inputs, tmp_path, capsys, [f"{DATA}root={tmp_path / 'nowhere'}"])
    for part in (str(tmp_path / "nowhere"), "ROCO", "licence", "make train EXP=phantom_cehnc"):
        assert part in message


def _run_fails(
    experiment: str,
    inputs: Path,
    runs: Path,
    capsys: pytest.CaptureFixture[str],
    extra: list[str],
    code: int = 2,
) -> str:
    assert run(experiment, inputs, runs / "runs", extra) == code
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message.partition("medzeroseg: ")[2]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_corrupt_image_is_named_also_from_a_worker(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    write_roco(tmp_path / "roco", train=4, validation=2, test=2, faults=RocoFaults(truncated_images=1))
    extra = [f"{DATA}root={tmp_path / 'roco'}", f"{DATA}num_workers={workers}", f"{DATA}batch_size=2"]
    message = _run_fails("roco_cehnc", inputs, tmp_path, capsys, extra)
    assert "ROCO_00001" in message
    assert ".jpg" in message
    assert run("roco_cehnc", inputs, tmp_path / "skip", [*extra, f"{DATA}corrupt=skip"]) == 0


def test_a_non_finite_loss_stops_with_case_ids_and_keeps_the_last_checkpoint(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from medzeroseg.losses import InfoNCELoss

    assert run("phantom_infonce", inputs, tmp_path / "runs") == 0
    folder = tmp_path / "runs" / "phantom_infonce" / "seed_0"
    (folder / "retrieval.json").unlink()
    before = (folder / "checkpoints" / "last.ckpt").read_bytes()
    original = InfoNCELoss.forward
    monkeypatch.setattr(InfoNCELoss, "forward", lambda self, *a, **k: original(self, *a, **k) * torch.nan)
    capsys.readouterr()
    more = ["--trainer.max_epochs=3", "--model.init_args.window_share=0"]  # epochs of pairs
    assert run("phantom_infonce", inputs, tmp_path / "runs", more, ["--resume"]) == 1
    message = capsys.readouterr().err
    assert "The training loss is nan at epoch 1" in message
    assert "ROCO_" in message
    assert "last.ckpt" in message
    assert "Traceback" not in message
    assert (folder / "checkpoints" / "last.ckpt").read_bytes() == before


def test_broken_weights_do_not_become_the_last_checkpoint(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from medzeroseg.losses import InfoNCELoss

    original = InfoNCELoss.forward

    def broken_in_validation(self: InfoNCELoss, *args: object, **options: object) -> torch.Tensor:
        return original(self, *args, **options) * (1.0 if self.training else torch.nan)

    monkeypatch.setattr(InfoNCELoss, "forward", broken_in_validation)
    message = _run_fails("phantom_infonce", inputs, tmp_path, capsys, [], code=1)
    assert "validation loss is nan" in message
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_damaged_checkpoint_is_named_on_resume(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = tmp_path / "runs" / "phantom_infonce" / "seed_0" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"PK\x03\x04 cut off")
    assert run("phantom_infonce", inputs, tmp_path / "runs", options=["--resume"]) == 2
    message = capsys.readouterr().err
    assert str(checkpoint) in message
    assert "Traceback" not in message


def test_testing_a_trained_model_needs_its_checkpoint(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL_RUN, *overrides("phantom_cehnc", inputs), f"--runs_dir={tmp_path}"]
    message = _fails_with_output(["test", "--config", "experiments/phantom_cehnc.yaml", *words], capsys)
    assert f"--ckpt_path={tmp_path}/phantom_cehnc/seed_0/checkpoints/best.ckpt" in message


@pytest.mark.parametrize("option", ["hard_negative_fraction=2", "image_size_px=8", "train=-1", "phantom_seed=1"])
def test_a_phantom_that_cannot_be_made_or_is_another_is_refused(
    option: str, inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("phantom_cehnc", inputs, tmp_path / "runs") == 0  # makes the phantom
    capsys.readouterr()
    message = _run_fails("phantom_cehnc", inputs, tmp_path / "other", capsys, [f"{DATA}{option}"])
    assert option.partition("=")[0].removeprefix("phantom_") in message


def test_bfloat16_trains_and_clips_whether_the_optimizer_is_fused_or_not(inputs: Path, tmp_path: Path) -> None:
    # so tight a bound that clipping decides the gradient, and a momentum that shows the gradient
    options = ["--trainer.precision=bf16-mixed", "--trainer.gradient_clip_val=1e-3", "--trainer.limit_train_batches=1"]
    clipped = {}
    for fused in ("true", "false"):
        words = [*options, f"--model.init_args.optimizer.init_args.fused={fused}"]
        assert run("roco_cehnc", inputs, tmp_path / fused, words) == 0
        path = tmp_path / fused / "roco_cehnc" / "seed_0" / "checkpoints" / "last.ckpt"
        state = torch.load(path, weights_only=True)["optimizer_states"][0]["state"]
        clipped[fused] = torch.cat([moments["exp_avg"].flatten() for moments in state.values()])
    assert clipped["true"].norm().item() == pytest.approx(1e-3 * (1 - 0.9), rel=0.01)
    torch.testing.assert_close(clipped["true"], clipped["false"], rtol=1e-3, atol=1e-9)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes in float16")
def test_half_precision_without_a_gpu_is_refused_instead_of_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "phantom_cehnc", "--", "--trainer.precision=16-mixed"]
    assert "16-mixed needs a GPU" in (message := _fails(words, 2, capsys))
    assert "--trainer.precision=bf16-mixed" in message


def test_a_checkpoint_of_another_architecture_is_refused(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("phantom_infonce", inputs, tmp_path / "runs") == 0
    checkpoint = tmp_path / "runs" / "phantom_infonce" / "seed_0" / "checkpoints" / "best.ckpt"
    words = [*SMALL_RUN, *overrides("roco_infonce", inputs), f"--runs_dir={tmp_path / 'other'}"]
    message = _fails_with_output(
        ["test", "--config", "experiments/roco_infonce.yaml", *words, f"--ckpt_path={checkpoint}"], capsys
    )
    assert "another architecture" in message
    assert "small" in message


def _fails_with_output(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_damaged_or_missing_checkpoint_is_named(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    checkpoint = tmp_path / "mine.ckpt"
    if content is not None:
        checkpoint.write_bytes(content)
    words = [
        *SMALL_RUN,
        *overrides("phantom_cehnc", inputs),
        f"--runs_dir={tmp_path}",
        f"--ckpt_path={checkpoint}",
    ]
    message = _fails_with_output(["test", "--config", "experiments/phantom_cehnc.yaml", *words], capsys)
    assert "mine.ckpt" in message


def test_a_checkpoint_that_would_run_code_is_refused(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'was_run'}",)

    checkpoint = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "payload": Evil()}, checkpoint, pickle_module=pickle)
    words = [
        *SMALL_RUN,
        *overrides("phantom_cehnc", inputs),
        f"--runs_dir={tmp_path}",
        f"--ckpt_path={checkpoint}",
    ]
    message = _fails_with_output(["test", "--config", "experiments/phantom_cehnc.yaml", *words], capsys)
    assert "evil.ckpt" in message
    assert not (tmp_path / "was_run").exists()


def test_an_output_folder_that_cannot_be_written_is_refused_before_the_work(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").write_text("a file stands where the folder should be")
    message = _run_fails("phantom_cehnc", inputs, tmp_path, capsys, [])
    assert str(tmp_path / "runs") in message


def test_tables_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "make train EXP=phantom_cehnc" in _fails(["tables", "--runs", str(tmp_path)], 2, capsys)


def test_phantom_command_writes_once_and_names_what_it_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--train", "4", "--validation", "2", "--test", "2", "--workers", "0"]
    command = ["phantom", "--out", str(tmp_path / "phantom"), "--seed", "0", *sizes]
    assert main(command) == 0
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "phantom").rglob("*.jpg")}
    assert len(written) == 8
    assert main(command) == 0
    assert written == {path: path.stat().st_mtime_ns for path in (tmp_path / "phantom").rglob("*.jpg")}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("not a phantom")
    capsys.readouterr()
    assert str(tmp_path / "mine") in _fails(["phantom", "--out", str(tmp_path / "mine"), *sizes], 2, capsys)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "not a phantom"


def test_installed_command_exits_with_the_code_and_without_a_traceback() -> None:
    command = Path(sys.executable).with_name("medzeroseg")
    result = subprocess.run([command, "train", "nothing"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "Known experiments" in result.stderr
    assert "Traceback" not in result.stderr
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    assert version.stdout.strip() == "0.1.0"


def test_the_error_of_a_data_module_that_gives_no_pairs() -> None:
    from lightning.pytorch import LightningDataModule, Trainer

    from medzeroseg.losses import InfoNCELoss
    from medzeroseg.models import ImageTextModel
    from medzeroseg.tasks import ContrastiveTask

    task = ContrastiveTask(ImageTextModel("small"), InfoNCELoss())
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(ConfigurationError, match="image-text pairs"):
        trainer.fit(task, datamodule=LightningDataModule())
