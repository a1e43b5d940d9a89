"""Each start of a run is recorded, with what it was started with."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from medzeroseg.callbacks.start_record import StartRecord, started_by_this_job


def test_an_entry_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JOB_ID", "JOB_NODELIST", "RESTART_COUNT"):
        monkeypatch.delenv(f"SLURM_{name}", raising=False)
    trainer = SimpleNamespace(
        default_root_dir=str(tmp_path), fast_dev_run=False, ckpt_path=None, world_size=2, precision="bf16-mixed"
    )
    task = SimpleNamespace(config={"model": {"seed": 3}})
    first = StartRecord(seed=3)
    first.on_fit_start(trainer, task)  # type: ignore[arg-type]
    first.on_test_start(trainer, task)  # type: ignore[arg-type]  # the same process: no second start
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    trainer.ckpt_path = "runs/x/last.ckpt"
    StartRecord(seed=3).on_test_start(trainer, task)  # type: ignore[arg-type]
    starts = json.loads((tmp_path / "starts.json").read_text(encoding="utf-8"))
    assert [start["seed"] for start in starts] == [3, 3]
    assert [start["from_checkpoint"] for start in starts] == [None, "runs/x/last.ckpt"]
    assert [start["slurm"] for start in starts] == [{}, {"job_id": "41", "restart_count": "1"}]
    for start in starts:
        assert start["environment"].keys() >= {"python", "torch", "lightning", "machine", "world_size", "precision"}
        assert start["git_revision"]
        assert start["time"].endswith("+00:00")
    trainer.fast_dev_run = 1
    StartRecord().on_fit_start(trainer, task)  # type: ignore[arg-type]
    assert len(json.loads((tmp_path / "starts.json").read_text(encoding="utf-8"))) == 2


@pytest.mark.parametrize(
    ("job", "ours"),
    [
        ({}, False),
        ({"JOB_ID": "41"}, True),
        ({"JOB_ID": "42"}, False),
        ({"JOB_ID": "50", "ARRAY_JOB_ID": "48", "ARRAY_TASK_ID": "1"}, True),
        ({"JOB_ID": "49", "ARRAY_JOB_ID": "48", "ARRAY_TASK_ID": "2"}, False),
        ({"JOB_ID": "49", "ARRAY_JOB_ID": "47", "ARRAY_TASK_ID": "1"}, False),
    ],
)
def test_a_job_knows_the_runs_that_it_has_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: dict[str, str], ours: bool
) -> None:
    for name in ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID"):
        monkeypatch.delenv(f"SLURM_{name}", raising=False)
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert not started_by_this_job(tmp_path)  # no run
    array = {"job_id": "49", "array_job_id": "48", "array_task_id": "1"}
    starts = [{"slurm": {}}, {"slurm": {"job_id": "41", "restart_count": "1"}}, {"slurm": array}]
    (tmp_path / "starts.json").write_text(json.dumps(starts), encoding="utf-8")
    assert started_by_this_job(tmp_path) is ours
