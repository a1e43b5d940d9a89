"""The batch files: what is asked of Slurm, and that nothing a person types is read as shell."""

import os
import subprocess
from pathlib import Path

import pytest

from medzeroseg.errors import ConfigurationError
from medzeroseg.slurm import TablesJob, TrainingJob


def directives(text: str) -> dict[str, str]:
    """`#SBATCH` options of a batch file; as Slurm does, only those before the first command."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            break
        if line.startswith("#SBATCH --"):
            name, _, value = line.removeprefix("#SBATCH --").partition("=")
            found[name] = value
    return found


def executed(text: str, folder: Path, **environment: str) -> list[list[str]]:
    """The words of each `srun` and `medzeroseg` that a batch file runs, with stand-ins for both."""
    (folder / "bin").mkdir(exist_ok=True)
    note = folder / "words"
    for name in ("srun", "medzeroseg"):
        path = folder / "bin" / name
        path.write_text(f'#!/bin/bash\n{{ echo {name}; printf "%s\\n" "$@"; echo ---; }} >> "{note}"\n')
        path.chmod(0o755)
    script = folder / "job.sbatch"
    # the stand-ins come before what the script itself puts in front
    script.write_text(text.replace("export PATH=", f"export PATH={folder / 'bin'}:"))
    variables = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_CPUS_PER_TASK": "8", **environment}
    subprocess.run(["bash", script], check=True, env={**os.environ, **variables}, cwd="/", capture_output=True)
    return [words.splitlines() for words in note.read_text().split("---\n") if words]


def test_one_task_a_gpu_on_every_node(tmp_path: Path) -> None:
    job = TrainingJob(
        experiments=("roco_cehnc",),
        nodes=4,
        gpus=8,
        partition="gpu",
        account="lab-3",
        time="1-00:00:00",
        runs_dir=tmp_path / "runs",
        overrides=("--trainer.max_epochs=3",),
    )
    assert directives(job.render()) == {
        "job-name": "roco_cehnc",
        "nodes": "4",
        "ntasks-per-node": "8",
        "gpus-per-node": "8",
        "cpus-per-task": "8",
        "time": "1-00:00:00",
        "partition": "gpu",
        "account": "lab-3",
        "signal": "SIGUSR1@120",
        "requeue": "",
        "open-mode": "append",
        "output": f'"{tmp_path}/runs/slurm/roco_cehnc/%j.log"',
    }
    [words] = executed(job.render(), tmp_path)
    assert words[:5] == [
        "srun",
        "--kill-on-bad-exit=1",
        "--cpus-per-task=8",  # srun takes it from nowhere else since Slurm 22.05
        "--open-mode=append",
        f"--output={tmp_path}/runs/slurm/roco_cehnc/%j_rank%t.log",
    ]
    assert words[5:] == [
        *("medzeroseg", "train", "roco_cehnc", "--seeds", "0", "--"),
        f"--runs_dir={tmp_path}/runs",
        *("--trainer.accelerator=gpu", "--trainer.devices=8", "--trainer.num_nodes=4", "--trainer.max_epochs=3"),
    ]


def test_tasks_without_gpus_and_a_resume(tmp_path: Path) -> None:
    job = TrainingJob(experiments=("a",), gpus=0, tasks=2, resume=True, runs_dir=tmp_path)
    assert "gpus-per-node" not in directives(job.render())
    assert directives(job.render())["ntasks-per-node"] == "2"
    [words] = executed(job.render(), tmp_path)
    assert "--trainer.accelerator=cpu" in words
    assert "--trainer.devices=2" in words
    assert "OMP_NUM_THREADS=${OMP_NUM_THREADS:-$SLURM_CPUS_PER_TASK}" in job.render()  # else its cores would idle
    assert words.index("--resume") < words.index("--")


def test_an_array_runs_every_experiment_with_every_seed(tmp_path: Path) -> None:
    job = TrainingJob(experiments=("roco_cehnc", "experiments/my own.yaml"), seeds=(3, 5), runs_dir=tmp_path)
    options = directives(job.render())
    assert options["array"] == "0-3"
    assert options["job-name"] == "roco_cehnc_and_1_more"
    assert options["output"].endswith('%A_%a.log"')
    for number, run in enumerate([("roco_cehnc", "3"), ("roco_cehnc", "5"), (job.experiments[1], "3")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        [words] = executed(job.render(), folder, SLURM_ARRAY_TASK_ID=str(number))
        at = words.index("train")
        assert (words[at + 1], words[at + 3]) == run


HOSTILE = [
    "--x=$(touch pwned)",
    "--x=`touch pwned`",
    "--x=a b  c",
    "--x='\"",
    "--x=;touch pwned",
    "--x=$HOME",
    "*",
    "@{n}",
]


def test_what_a_person_types_is_never_read_as_shell(tmp_path: Path) -> None:
    runs = tmp_path / "my runs; $(touch pwned)"
    job = TrainingJob(experiments=("a b$(touch pwned)",), runs_dir=runs, overrides=tuple(HOSTILE))
    [words] = executed(job.render(), tmp_path)
    assert words[-len(HOSTILE) :] == HOSTILE
    assert f"--runs_dir={runs}" in words
    assert "a b$(touch pwned)" in words
    assert executed(TablesJob(job).render(), tmp_path)[-1] == ["medzeroseg", "tables", "--runs", str(runs)]
    assert not list(tmp_path.rglob("pwned"))
    assert not Path("/pwned").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"partition": "gpu\n#SBATCH --account=other"},
        {"account": "a b"},
        {"time": "1:00:00 --uid=0"},
        {"nodes": 0},
        {"gpus": -1},
        {"grace_s": 0},
        {"runs_dir": Path("/tmp/%j")},
        {"runs_dir": Path('/tmp/"x')},
    ],
)
def test_what_cannot_stand_in_a_batch_file_is_refused(wrong: dict[str, object]) -> None:
    name = next(iter(wrong)).removesuffix("_dir")
    with pytest.raises(ConfigurationError, match="path" if name == "runs" else name):
        TrainingJob(experiments=("a",), **wrong)  # type: ignore[arg-type]
