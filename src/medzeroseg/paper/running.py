"""How a step of a paper is started, and what is kept of it: its log and its times."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from medzeroseg.errors import ConfigurationError, StoppedError
from medzeroseg.files import write_atomically
from medzeroseg.paper.plan import Run, Step
from medzeroseg.paper.scheduler import End, Outcome, Process
from medzeroseg.paper.state import Stage, Status
from medzeroseg.paper.warm import WarmStart
from medzeroseg.tables import is_finished


@dataclass(frozen=True)
class Attempt:
    """One process that worked on a run.

    Attributes:
        experiment: Of the run.
        seed: Of the run.
        begun: When, UTC, to the second.
        seconds: Wall-clock of the process, imports included.
        exit_code: 0 if it was finished.
        resumed: Whether it went on from a checkpoint.
        jobs: How many ran side by side at most.
        threads: Of its arithmetic.
    """

    experiment: str
    seed: int
    begun: str
    seconds: float
    exit_code: int
    resumed: bool
    jobs: int
    threads: int

    @property
    def run(self) -> Run:
        """What it worked on."""
        return Run(self.experiment, self.seed)


class Times:
    """The attempts, in a JSON file that outlives interruptions.

    Args:
        path: The file; read if there.

    Raises:
        ConfigurationError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.attempts: list[Attempt] = []
        if path.is_file():
            try:
                self.attempts = [Attempt(**values) for values in json.loads(path.read_text(encoding="utf-8"))]
            except (ValueError, TypeError) as error:
                raise ConfigurationError(
                    f"{path} cannot be read ({error}): remove it; only run times are lost."
                ) from error

    def add(self, attempt: Attempt) -> None:
        """Keep an attempt."""
        self.attempts.append(attempt)
        write_atomically(self.path, json.dumps([asdict(one) for one in self.attempts], indent=1) + "\n")

    def minutes(self) -> dict[Run, float]:
        """Run to the minutes of all attempts that led to its last finish; only runs that were finished here."""
        spent: dict[Run, float] = {}
        done: dict[Run, float] = {}
        for attempt in self.attempts:
            before = spent.get(attempt.run, 0.0) if attempt.resumed else 0.0
            spent[attempt.run] = before + attempt.seconds / 60
            if attempt.exit_code == 0:
                done[attempt.run] = spent[attempt.run]
        return done

    def guesses(self, runs: Sequence[Run]) -> dict[Run, float]:
        """Minutes by run, from the run itself or from another seed of its experiment."""
        known = self.minutes()
        of_experiment = {run.experiment: minutes for run, minutes in known.items()}
        return {run: known.get(run, of_experiment[run.experiment]) for run in runs if run.experiment in of_experiment}


class Starter:
    """Starts steps as `medzeroseg train` in processes of their own.

    Args:
        folder: Of the paper; logs go to `logs/` in it.
        found: What is done and what can be resumed.
        overrides: Options for every run.
        jobs: How many run side by side; each gets its share of the cores.
        times: Where the attempts are kept.
        lock: File descriptor that the processes hold open, so that a lock outlives this process with them.
        warm: Forks the runs; None: each run starts Python anew.
    """

    def __init__(
        self,
        folder: Path,
        found: Mapping[Run, Status],
        overrides: Sequence[str],
        jobs: int,
        times: Times,
        lock: int,
        warm: WarmStart | None = None,
    ) -> None:
        self.logs = folder / "logs"
        self.found = found
        self.overrides = overrides
        self.jobs = jobs
        self.times = times
        self.lock = lock
        self.threads = threads_of_each(jobs)
        self._warm = warm
        self._begun: dict[Run, datetime] = {}

    def log(self, run: Run) -> Path:
        """Where a run's output goes."""
        return self.logs / f"{run.key}.log"

    def start(self, step: Step) -> Process:
        """Start a step; what it prints is added to its log."""
        self.logs.mkdir(parents=True, exist_ok=True)
        words = ["train", str(step.file), "--seeds", str(step.run.seed)]
        words += ["--resume"] if self._resumes(step.run) else []
        words += ["--", "--trainer.enable_progress_bar=false", *self.overrides]
        self._begun[step.run] = datetime.now(UTC)
        path = self.log(step.run)
        with path.open("ab") as log:
            log.write(f"== {self._begun[step.run]:%Y-%m-%d %H:%M:%S} UTC: medzeroseg {' '.join(words)}\n".encode())
            log.flush()
            if self._warm is not None:
                return self._warm.start("medzeroseg.main:main", words, path, self.lock)
            return subprocess.Popen(
                [sys.executable, "-m", "medzeroseg.main", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": str(self.threads)},
                start_new_session=True,  # Ctrl-C in the terminal comes to us alone
                pass_fds=(self.lock,),
            )

    def finish(self, step: Step, code: int, seconds: float) -> Outcome:
        """Keep the attempt, and say what became of the run."""
        if code == 0 and not is_finished(step.folder):
            code = 1
        begun = f"{self._begun[step.run]:%Y-%m-%dT%H:%M:%SZ}"
        resumed = self._resumes(step.run)
        run = step.run
        self.times.add(
            Attempt(run.experiment, run.seed, begun, round(seconds, 1), code, resumed, self.jobs, self.threads)
        )
        if code == 0:
            return Outcome(End.DONE, seconds)
        end = End.STOPPED if code == StoppedError.exit_code else End.FAILED
        return Outcome(end, seconds, f"exit code {code}; see {self.log(run)}")

    def _resumes(self, run: Run) -> bool:
        return self.found[run].stage is Stage.RESUME


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of_each(jobs: int) -> int:
    """A job's share of the cores, if `OMP_NUM_THREADS` does not say otherwise."""
    return int(os.environ.get("OMP_NUM_THREADS") or max(1, cores() // jobs))


def default_jobs(has_gpu: bool) -> int:
    """Two where there are two cores and no GPU to share, else one."""
    return 2 if cores() >= 2 and not has_gpu else 1
