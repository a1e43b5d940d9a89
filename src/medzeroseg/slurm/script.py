"""Batch files: templates beside this module, filled in with quoted values."""

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

from medzeroseg.errors import ConfigurationError

_DIRECTIVE = re.compile(r"[\w.:,@+=/-]+")  # what may stand behind "#SBATCH --option=" without quotes
_PATH_LIMITS = '"\\%\n'  # Slurm reads these in file names, and no quotes keep it from that


class _Template(Template):
    delimiter = "@"  # `$` is the shell's


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """A training as one batch file: one task a GPU, or a job array where there are several runs.

    Args:
        experiments: Names of experiments, or paths of their files.
        seeds: Each experiment is run once with each.
        nodes: Machines of one run.
        gpus: GPUs of each machine, and so tasks; 0 for tasks without one.
        tasks: Tasks of each machine where there are no GPUs.
        cpus_per_task: Cores of each task: one computes, the others read data.
        time: Time limit of one start of the job, as Slurm writes it. A longer training goes on in the next one.
        partition: Where to queue; None for the cluster's default.
        account: Whom to charge; None for the cluster's default.
        grace_s: How long before the time limit Slurm tells the tasks that they must go, seconds.
        resume: Go on from earlier runs' checkpoints at the first start, too.
        runs_dir: Folder of all runs; batch files and logs are in its `slurm/`.
        overrides: Options that override the experiment's.

    Raises:
        ConfigurationError: A value cannot stand in a batch file, or a number is out of range.
    """

    experiments: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    nodes: int = 1
    gpus: int = 1
    tasks: int = 1
    cpus_per_task: int = 8
    time: str = "24:00:00"
    partition: str | None = None
    account: str | None = None
    grace_s: int = 120
    resume: bool = False
    runs_dir: Path = Path("runs")
    overrides: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what Slurm or the shell would misread."""
        for name in ("nodes", "tasks", "cpus_per_task", "grace_s"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"slurm: {name} must be at least 1, got {getattr(self, name)}")
        if self.gpus < 0:
            raise ConfigurationError(f"slurm: gpus must be 0 or more, got {self.gpus}")
        for name in ("time", "partition", "account"):
            value = getattr(self, name)
            if value is not None and not _DIRECTIVE.fullmatch(value):
                raise ConfigurationError(f"slurm: {name} cannot be {value!r}")
        if any(character in str(self.folder) for character in _PATH_LIMITS):
            raise ConfigurationError(f"slurm: the path {self.folder} must not contain any of {_PATH_LIMITS!r}")

    @property
    def name(self) -> str:
        """Of the job."""
        stems = [re.sub(r"[^\w.-]", "_", Path(name).stem) for name in self.experiments]
        return stems[0] if len(stems) == 1 else f"{stems[0]}_and_{len(stems) - 1}_more"

    @property
    def folder(self) -> Path:
        """Where the batch file and the logs are."""
        return self.runs_dir.absolute() / "slurm" / self.name

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Experiment and seed of each run."""
        return [(name, seed) for name in self.experiments for seed in self.seeds]

    def render(self) -> str:
        """Give the batch file's text."""
        tasks = self.gpus or self.tasks
        several = len(self.runs) > 1
        directives = {
            "array": f"0-{len(self.runs) - 1}" if several else None,
            "nodes": self.nodes,
            "ntasks-per-node": tasks,
            "gpus-per-node": self.gpus or None,
            "cpus-per-task": self.cpus_per_task,
            "time": self.time,
            "partition": self.partition,
            "account": self.account,
        }
        stem = "%A_%a" if several else "%j"
        options = [
            f"--runs_dir={self.runs_dir.absolute()}",
            f"--trainer.accelerator={'gpu' if self.gpus else 'cpu'}",
            f"--trainer.devices={tasks}",
            f"--trainer.num_nodes={self.nodes}",
            *self.overrides,
        ]
        return _fill(
            "train",
            name=self.name,
            directives="\n".join(f"#SBATCH --{key}={value}" for key, value in directives.items() if value is not None),
            grace_s=self.grace_s,
            threads="1" if self.gpus else "$SLURM_CPUS_PER_TASK",
            log=f"{self.folder}/{stem}.log",
            rank_log=shlex.quote(f"{self.folder}/{stem}_rank%t.log"),
            experiments=shlex.join(name for name, _ in self.runs),
            seeds=" ".join(str(seed) for _, seed in self.runs),
            resume=" --resume" if self.resume else "",
            options=" \\\n  ".join(shlex.quote(option) for option in options),
        )


@dataclass(frozen=True)
class TablesJob:
    """Writes the tables over all runs, after a training.

    Args:
        training: The runs, and where to queue.
    """

    training: TrainingJob

    def render(self) -> str:
        """Give the batch file's text."""
        site = {"partition": self.training.partition, "account": self.training.account}
        return _fill(
            "tables",
            name=f"{self.training.name}_tables",
            directives="\n".join(f"#SBATCH --{key}={value}" for key, value in site.items() if value) or "#",
            log=f"{self.training.folder}/tables_%j.log",
            runs_dir=shlex.quote(str(self.training.runs_dir.absolute())),
        )


def _fill(template: str, **values: object) -> str:
    text = Path(__file__).with_name(f"{template}.sbatch").read_text(encoding="utf-8")
    places = {"folder": shlex.quote(str(Path.cwd())), "bin": shlex.quote(str(Path(sys.executable).parent))}
    return _Template(text).substitute(values | places)
