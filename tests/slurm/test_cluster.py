"""Trainings as Slurm jobs over two nodes: to the end, preempted, a rank killed, a node crashed."""

import json
import os
import re
import signal
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faults import DATA, differences
from medzeroseg.files import write_atomically
from medzeroseg.slurm import TablesJob, TrainingJob
from tests.slurm.conftest import Cluster, processes_of, wait_until

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(0)]  # each wait has a limit of its own

EPOCHS = 12
SAVED = re.compile(r"SIGTERM: \S+last\.ckpt holds all up to step \d+")


class Job:
    """A small training on the phantom, two CPU tasks on two nodes."""

    def __init__(self, cluster: Cluster, runs: Path, phantom: Path, *options: str) -> None:
        self.cluster = cluster
        self.folder = runs / "phantom_cehnc" / "seed_0"
        self.logs = runs / "slurm" / "phantom_cehnc"
        overrides = [
            f"{DATA}root={phantom}",
            *(f"{DATA}{size}" for size in ("train=64", "validation=8", "test=8", "phantom_workers=0")),
            *(f"{DATA}{option}" for option in ("batch_size=4", "eval_batch_size=8", "num_workers=0")),
            "--model.init_args.loss.init_args.lambda_update=adaptive",
            "--model.init_args.window_share=0.5",
            "--step_checkpoint.every_n_steps=5",
            f"--trainer.max_epochs={EPOCHS}",
            "--trainer.check_val_every_n_epoch=6",
            "--trainer.enable_progress_bar=false",
        ]
        medzeroseg = Path(sys.executable).with_name("medzeroseg")
        resources = ["--nodes", "2", "--gpus", "0", "--cpus-per-task", "1", "--time", "30", "--runs", str(runs)]
        words = ["slurm", "phantom_cehnc", *resources, *options, "--", *overrides]
        told = cluster.run("env", "OMP_NUM_THREADS=1", medzeroseg, *words)
        self.number, *self.tables = re.findall(r"^Job (\d+):", told, flags=re.MULTILINE)

    @property
    def log(self) -> str:
        """What the batch file and `srun` have said."""
        path = self.logs / f"{self.number}.log"
        return path.read_text(encoding="utf-8") if path.is_file() else "no log yet"

    def rank_log(self, rank: int) -> str:
        """What a rank has said, since its first start."""
        path = self.logs / f"{self.number}_rank{rank}.log"
        return path.read_text(encoding="utf-8") if path.is_file() else "no log yet"

    def wait_for_a_checkpoint(self) -> None:
        """Until the training is under way."""
        seen = self._written()
        wait_until(lambda: self._written() > seen, told=self.everything)

    def wait_for(self, *states: str) -> float:
        """Until Slurm has it in one of these states; seconds."""
        return wait_until(lambda: self.cluster.state(self.number) in states, told=self.everything)

    def set_limit(self, minutes: int) -> None:
        """Change the time limit of this start."""
        self.cluster.run("scontrol", "update", f"JobId={self.number}", f"TimeLimit={minutes}")

    def starts(self) -> list[dict[str, Any]]:
        """What the run has noted of each start."""
        found: list[dict[str, Any]] = json.loads((self.folder / "starts.json").read_text(encoding="utf-8"))
        return found

    def everything(self) -> str:
        """All logs."""
        return f"{self.cluster.state(self.number)}\n{self.log}\n{self.rank_log(0)}\n{self.rank_log(1)}"

    def _written(self) -> int:
        path = self.folder / "checkpoints" / "last.ckpt"
        return path.stat().st_mtime_ns if path.exists() else 0


def assert_two_starts(job: Job) -> None:
    """It has come to its end in a second start, which went on from the first one's checkpoint."""
    assert job.cluster.state(job.number) == "COMPLETED", job.everything()
    assert [start["slurm"].get("restart_count") for start in job.starts()] == [None, "1"]
    assert job.starts()[1]["from_checkpoint"].endswith("last.ckpt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, project_root: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project_root)
        yield tmp_path_factory.mktemp("slurm")


@pytest.fixture(scope="module")
def whole(cluster: Cluster, folder: Path) -> Job:
    """A job that nothing happens to."""
    job = Job(cluster, folder / "whole", folder / "phantom")
    job.wait_for("COMPLETED", "FAILED")
    return job


def test_two_nodes_train_as_one_and_the_tables_follow(cluster: Cluster, whole: Job) -> None:
    assert cluster.state(whole.number) == "COMPLETED", whole.everything()
    [start] = whole.starts()
    assert start["environment"]["world_size"] == "2"
    assert start["slurm"] == {"job_id": whole.number, "job_nodelist": "node[1-2]"}
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in whole.rank_log(1)
    began = datetime.fromisoformat(cluster.field(whole.number, "StartTime")).astimezone()
    took = datetime.fromisoformat(start["time"]) - began
    print(f"\nfrom the start of the job over two nodes to that of the fit: {took.total_seconds():.0f} s")  # noqa: T201
    [tables] = whole.tables
    wait_until(lambda: cluster.state(tables) in ("COMPLETED", "FAILED"))
    assert cluster.state(tables) == "COMPLETED"
    assert (whole.folder.parents[1] / "tables" / "table1.md").is_file()


def test_an_array_runs_every_experiment_with_every_seed_and_the_tables_follow(cluster: Cluster, folder: Path) -> None:
    program = folder / "bin" / "medzeroseg"  # a stand-in: what counts here is which runs Slurm makes of the array
    program.parent.mkdir()
    program.write_text(f'#!/bin/bash\necho "$SLURM_NTASKS: ${{@:1:4}}" >> {folder}/calls\n')
    program.chmod(0o755)
    job = TrainingJob(
        experiments=("a", "b"), seeds=(0, 1), gpus=0, cpus_per_task=1, time="5", runs_dir=folder / "array runs"
    )
    path = f"export PATH={program.parent}:"
    numbers = []
    for text in (job.render(), TablesJob(job).render()):
        script = job.folder / f"{len(numbers)}.sbatch"
        write_atomically(script, text.replace("export PATH=", path))
        after = [f"--dependency=afterok:{numbers[0]}"] if numbers else []
        numbers.append(cluster.run("sbatch", "--parsable", *after, script))
    wait_until(lambda: cluster.state(numbers[1]) in ("COMPLETED", "FAILED"))
    calls = (folder / "calls").read_text(encoding="utf-8").splitlines()
    assert sorted(calls[:4]) == [f"1: train {name} --seeds {seed}" for name in "ab" for seed in (0, 1)]
    assert calls[4] == f"1: tables --runs {folder / 'array runs'}"
    names = {f"{numbers[0]}_{number}{part}.log" for number in range(4) for part in ("", "_rank0")}
    assert {log.name for log in job.folder.glob("*.log")} == {*names, f"tables_{numbers[1]}.log"}


def test_a_preempted_job_goes_on_and_ends_in_the_same_weights(cluster: Cluster, whole: Job, folder: Path) -> None:
    job = Job(cluster, folder / "preempted", folder / "phantom", "--no-tables")
    job.wait_for_a_checkpoint()
    cluster.run("sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true")
    job.wait_for("PENDING")
    wait_until(lambda: not processes_of(job.number))
    assert "The job is back in the queue" in job.rank_log(0)  # it says so after it has asked for that
    job.wait_for("RUNNING")  # after Slurm's two minutes
    job.wait_for("COMPLETED", "FAILED")
    assert_two_starts(job)
    assert differences(whole.folder, job.folder) == []


def test_a_job_near_its_time_limit_goes_on_in_the_next_start(cluster: Cluster, whole: Job, folder: Path) -> None:
    job = Job(cluster, folder / "limited", folder / "phantom", "--no-tables")
    job.wait_for_a_checkpoint()
    job.set_limit(3)  # minutes since its start; the signal comes 120 s before
    job.wait_for("PENDING")
    wait_until(lambda: not processes_of(job.number))
    assert "The job is back in the queue" in job.rank_log(0)
    job.set_limit(30)  # or each start would be as short
    job.wait_for("RUNNING")
    job.wait_for("COMPLETED", "FAILED")
    assert_two_starts(job)
    assert differences(whole.folder, job.folder) == []


def test_a_job_preempted_by_sigterm_saves_and_goes_on(cluster: Cluster, whole: Job, folder: Path) -> None:
    with cluster.without("SlurmctldParameters=preempt_send_user_signal"):  # as it is where a site has not set it
        job = Job(cluster, folder / "terminated", folder / "phantom", "--no-tables")
        job.wait_for_a_checkpoint()
        cluster.run("sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=true")
        job.wait_for("PENDING")
    wait_until(lambda: not processes_of(job.number))
    assert SAVED.search(job.rank_log(0)), job.everything()
    job.wait_for("RUNNING")
    job.wait_for("COMPLETED", "FAILED")
    assert_two_starts(job)
    assert differences(whole.folder, job.folder) == []


def test_a_cancelled_job_saves_and_goes_on_where_it_is_submitted_again(
    cluster: Cluster, whole: Job, folder: Path
) -> None:
    job = Job(cluster, folder / "cancelled", folder / "phantom", "--no-tables")
    job.wait_for_a_checkpoint()
    cluster.run("scancel", job.number)
    job.wait_for("CANCELLED")
    assert wait_until(lambda: not processes_of(job.number)) < 30
    assert SAVED.search(job.rank_log(0)), job.everything()

    job = Job(cluster, folder / "cancelled", folder / "phantom", "--no-tables", "--resume")
    job.wait_for("COMPLETED", "FAILED")
    assert cluster.state(job.number) == "COMPLETED", job.everything()
    assert [bool(start.get("from_checkpoint")) for start in job.starts()] == [False, True]
    assert differences(whole.folder, job.folder) == []


def test_a_killed_rank_ends_the_job_and_a_crashed_node_does_not(cluster: Cluster, whole: Job, folder: Path) -> None:
    job = Job(cluster, folder / "killed", folder / "phantom", "--no-tables")
    job.wait_for_a_checkpoint()
    os.kill(min(pid for pid, rank in processes_of(job.number).items() if rank == "1"), signal.SIGKILL)
    assert job.wait_for("FAILED") < 30
    assert wait_until(lambda: not processes_of(job.number)) < 30  # no orphans
    assert re.search(r"srun: error: node2: task 1: Killed", job.log)
    assert not (job.folder / "checkpoints" / "best.ckpt").exists()  # it has not come to the end

    job = Job(cluster, folder / "killed", folder / "phantom", "--no-tables", "--resume")
    job.wait_for_a_checkpoint()
    cluster.manage("crash", "node2")
    job.wait_for("PENDING")  # Slurm gives up a node after SlurmdTimeout
    cluster.manage("boot", "node2")
    # Not hurried by `scontrol update StartTime=now`: what Slurm could not tell the dead node, such as to end this very
    # step, reaches it within a minute of its boot and would meet the next start. The two minutes are for that.
    job.wait_for("RUNNING")
    job.wait_for("COMPLETED", "FAILED")
    assert cluster.state(job.number) == "COMPLETED", job.everything()
    assert [bool(start.get("from_checkpoint")) for start in job.starts()] == [False, True, True]
    assert differences(whole.folder, job.folder) == []
