"""`medzeroseg slurm` with a stand-in for sbatch."""

from pathlib import Path

import pytest

from medzeroseg.main import main


@pytest.fixture(autouse=True)
def at_root(project_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project_root)


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Answers with job numbers from 41 on; notes its words, a line a call."""
    (tmp_path / "bin").mkdir()
    path, note = tmp_path / "bin" / "sbatch", tmp_path / "calls"
    path.write_text(f'#!/bin/bash\necho "$@" >> {note}\necho "$((40 + $(wc -l < {note})));cluster"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")
    return note


def test_a_training_is_submitted_and_its_tables_after_it(
    sbatch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    words = ["slurm", "roco_cehnc", "--nodes", "2", "--gpus", "4", "--seeds", "0,1,2", "--runs", str(runs)]
    assert main([*words, "--", "--trainer.max_epochs=3"]) == 0
    folder = runs / "slurm" / "roco_cehnc"
    first, second = sbatch.read_text().splitlines()
    assert first == f"--parsable {folder}/train.sbatch"
    assert second == f"--parsable --dependency=afterok:41 --kill-on-invalid-dep=yes {folder}/tables.sbatch"
    text = (folder / "train.sbatch").read_text()
    assert "#SBATCH --array=0-2" in text
    assert "seeds=(0 1 2)" in text
    assert "--trainer.max_epochs=3" in text
    told = capsys.readouterr().out
    assert "Job 41: 3 run(s)" in told
    assert "Job 42" in told


def test_a_dry_run_prints_and_leaves_nothing(sbatch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["slurm", "roco_cehnc", "--dry-run", "--runs", str(tmp_path / "runs")]) == 0
    assert capsys.readouterr().out.startswith("#!/bin/bash\n")
    assert not sbatch.exists()
    assert not (tmp_path / "runs").exists()


def test_an_unknown_experiment_a_refusal_and_a_missing_slurm_are_told(
    sbatch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["slurm", "roco_cenhc"]) == 2
    assert "Known experiments" in capsys.readouterr().err
    words = ["slurm", "roco_cehnc", "--runs", str(tmp_path / "runs")]
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/bash\necho 'error: invalid partition' >&2\nexit 1\n")
    assert main(words) == 2
    assert "invalid partition" in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(words) == 2
    assert "login node" in capsys.readouterr().err
