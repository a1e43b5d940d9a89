"""`medzeroseg slurm`: write the batch files of a training and submit them."""

import argparse
import shutil
import subprocess
from pathlib import Path

from medzeroseg.errors import ConfigurationError
from medzeroseg.experiments import find_experiment
from medzeroseg.files import write_atomically
from medzeroseg.slurm.script import TablesJob, TrainingJob


def add_slurm_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `medzeroseg slurm` to a parser."""
    default = TrainingJob(experiments=("none",))
    parser.add_argument("experiments", nargs="+", metavar="EXPERIMENT", help="as for `train`; several: a job array")
    parser.add_argument("--seeds", type=_seeds, default=default.seeds, help="0,1,2: a job array (default: 0)")
    parser.add_argument("--nodes", type=int, default=default.nodes, help="machines of one run (default: 1)")
    parser.add_argument("--gpus", type=int, default=default.gpus, help="of each machine; 0: none (default: 1)")
    parser.add_argument("--tasks", type=int, default=default.tasks, help="of each machine without GPUs (default: 1)")
    parser.add_argument("--cpus-per-task", type=int, default=default.cpus_per_task, help="cores (default: 8)")
    parser.add_argument("--time", default=default.time, help="limit of one start of the job (default: 24:00:00)")
    parser.add_argument("--partition", help="where to queue")
    parser.add_argument("--account", help="whom to charge")
    parser.add_argument("--grace-s", type=int, default=default.grace_s, help="notice before an end (default: 120)")
    parser.add_argument("--resume", action="store_true", help="go on from earlier runs' checkpoints")
    parser.add_argument("--runs", type=Path, default=default.runs_dir, help="folder of the runs (default: runs)")
    parser.add_argument("--no-tables", action="store_true", help="without the job that merges the tables afterwards")
    parser.add_argument("--dry-run", action="store_true", help="print the batch file; write and submit nothing")
    parser.epilog = "Overrides of the experiment follow `--`, e.g. -- --trainer.max_epochs=3"


def run_slurm(args: argparse.Namespace) -> int:
    """Submit, or print what would be submitted.

    Args:
        args: What `add_slurm_arguments` parses, and `overrides`: the words after `--`.

    Returns:
        Exit code 0.

    Raises:
        ConfigurationError: No such experiment, a value cannot stand in a batch file, or Slurm refuses the job.
    """
    for name in args.experiments:
        find_experiment(name)
    job = TrainingJob(
        experiments=tuple(args.experiments),
        seeds=args.seeds,
        nodes=args.nodes,
        gpus=args.gpus,
        tasks=args.tasks,
        cpus_per_task=args.cpus_per_task,
        time=args.time,
        partition=args.partition,
        account=args.account,
        grace_s=args.grace_s,
        resume=args.resume,
        runs_dir=args.runs,
        overrides=tuple(args.overrides),
    )
    if args.dry_run:
        print(job.render(), end="")  # noqa: T201 - the command's answer
        return 0
    number = submit(job.folder / "train.sbatch", job.render())
    print(f"Job {number}: {len(job.runs)} run(s), {job.folder}/train.sbatch; logs beside it.")  # noqa: T201
    if not args.no_tables:
        after = (f"--dependency=afterok:{number}", "--kill-on-invalid-dep=yes")
        tables = submit(job.folder / "tables.sbatch", TablesJob(job).render(), *after)
        print(f"Job {tables}: the tables, when it has ended well.")  # noqa: T201
    return 0


def submit(path: Path, text: str, *options: str) -> str:
    """Write a batch file and hand it to Slurm.

    Args:
        path: Where to write it; its folder is that of the logs.
        text: The file.
        *options: Of `sbatch`.

    Returns:
        The job's number.

    Raises:
        ConfigurationError: There is no Slurm here, or it refuses the job.
    """
    if shutil.which("sbatch") is None:
        raise ConfigurationError(
            "There is no `sbatch` here: run this on a login node of the cluster, or with --dry-run."
        )
    write_atomically(path, text)
    result = subprocess.run(["sbatch", "--parsable", *options, str(path)], capture_output=True, text=True, check=False)
    if result.returncode:
        raise ConfigurationError(f"Slurm refuses {path}: {result.stderr.strip()}")
    return result.stdout.strip().partition(";")[0]  # the cluster's name may follow


def _seeds(text: str) -> tuple[int, ...]:
    return tuple(int(seed) for seed in text.split(","))
