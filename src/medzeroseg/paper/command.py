"""The `paper` command: make everything that the publication's tables and figures need, and report on it."""

import argparse
import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from medzeroseg.errors import ConfigurationError
from medzeroseg.files import require_writable
from medzeroseg.paper.configs import resolve
from medzeroseg.paper.plan import Paper, Run, Step, build_steps, load_paper, missing_data, require_data
from medzeroseg.paper.progress import Progress, clock
from medzeroseg.paper.report import Picture
from medzeroseg.paper.running import Starter, Times, default_jobs, threads_of_each
from medzeroseg.paper.scheduler import End, Outcome, Schedule, execute
from medzeroseg.paper.state import Stage, Status, statuses
from medzeroseg.paper.warm import WarmStart


def add_paper_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `medzeroseg paper` to a parser."""
    parser.add_argument("paper", metavar="DATA", help="name of a file in experiments/papers/, or the path of one")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument(
        "--jobs", type=_positive, help="runs side by side (default: 2 on several cores without GPU, else 1)"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what is done and what is left, and start nothing")
    parser.add_argument("--report-only", action="store_true", help="report on what is done, and start nothing")
    parser.epilog = "Overrides of every experiment follow `--`, e.g. -- --trainer.accelerator=cpu"


def run_paper(args: argparse.Namespace, packages: Sequence[str], preload: Sequence[str] = ()) -> int:
    """Run what is left of a paper in order, then write its tables, figures and report to `<runs>/paper/<DATA>`.

    Args:
        args: What `add_paper_arguments` parses, and `overrides`: the words after `--`.
        packages: Packages whose classes the experiments name.
        preload: Modules that every run imports.

    Returns:
        Exit code: 1 where a run failed or something could not be built.

    Raises:
        MedZeroSegError: With a message for a person.
    """
    console = Console(highlight=False)
    paper = load_paper(args.paper)
    folder: Path = args.runs / "paper" / paper.name
    require_writable(folder)
    overrides = [f"--runs_dir={args.runs}", *args.overrides]
    only_looks = args.dry_run or args.report_only
    has_gpu = not only_looks and _has_accelerator()
    jobs = args.jobs or default_jobs(has_gpu)
    warm = None if only_looks or has_gpu else WarmStart(preload, threads_of_each(jobs))
    with console.status("reading the experiments"):
        meanwhile = warm.prepare if warm else None
        templates = resolve(paper.experiments, overrides, folder.parent / ".configs", packages, meanwhile)
    steps = build_steps(paper, templates)
    times = Times(folder / "times.json")
    if args.dry_run:
        _show_plan(console, paper, steps, statuses(steps), times)
        return 0
    with _alone(folder.parent / ".lock") as lock:
        found = statuses(steps)
        if args.report_only:
            outcomes = {run: _as_found(status) for run, status in found.items()}
        else:
            left = [step for step in steps if found[step.run].stage is not Stage.DONE]
            if not paper.data_is_made:
                require_data(left)
            starter = Starter(folder, found, overrides, jobs, times, lock, warm)
            console.print(
                f"{paper.title}: {len(steps)} runs, {len(steps) - len(left)} done; "
                f"{jobs} side by side, threads of each: {starter.threads}; logs in {starter.logs}/"
            )
            outcomes = _run(console, steps, found, starter)
        return _report(console, paper, steps, outcomes, times, folder, _command(args))


def _run(console: Console, steps: Sequence[Step], found: Mapping[Run, Status], starter: Starter) -> dict[Run, Outcome]:
    schedule = Schedule(steps, found, starter.times.guesses([step.run for step in steps]))
    begun = time.monotonic()
    with Progress(schedule, starter.jobs, console) as progress:
        execute(
            schedule,
            jobs=starter.jobs,
            start=starter.start,
            finish=starter.finish,
            tell=progress.tell,
            stopping=lambda: console.print("interrupted: the runs are asked to save and end"),
        )
    console.print(f"All runs have ended after {clock(time.monotonic() - begun)}.")
    return {step.run: schedule.outcomes[step.run] for step in steps}


def _report(
    console: Console,
    paper: Paper,
    steps: Sequence[Step],
    outcomes: Mapping[Run, Outcome],
    times: Times,
    folder: Path,
    command: Sequence[str],
) -> int:
    from medzeroseg.paper.building import build

    with console.status("writing tables, figures and the report"):
        faults = build(paper, steps, outcomes, times, folder, command, _accelerator(), _draw)
    for fault in faults:
        console.print(f"not built: {fault}", style="red", markup=False)
    undone = [run for run, outcome in outcomes.items() if outcome.end is not End.DONE]
    console.print(f"Report: {folder / 'report.html'}" + (f" ({len(undone)} runs are missing in it)" if undone else ""))
    return 1 if undone or faults else 0


def _show_plan(
    console: Console, paper: Paper, steps: Sequence[Step], found: Mapping[Run, Status], times: Times
) -> None:
    guesses = times.guesses([step.run for step in steps])
    table = Table("Run", "State", "Needs", "Minutes", "Why", title=paper.title, title_justify="left")
    for step in steps:
        status = found[step.run]
        minutes = f"{guesses[step.run]:.1f}" if step.run in guesses else "-"
        needs = ", ".join(need.experiment for need in step.needs) or "-"
        table.add_row(str(step.run), status.stage.value, needs, minutes, status.reason)
    console.print(table)
    left = [step for step in steps if found[step.run].stage is not Stage.DONE]
    console.print(f"{len(steps) - len(left)} of {len(steps)} runs are done.")
    for root, names in ({} if paper.data_is_made else missing_data(left)).items():
        console.print(f"missing: {root}, for {', '.join(names)}", style="red", markup=False)


def _draw(runs: Path, folder: Path) -> tuple[list[Picture], list[str]]:
    from medzeroseg.figures.writing import write_figures  # torch and matplotlib: seconds

    written, missing = write_figures(runs, folder)
    return [Picture(one.png, _title(one.name), one.caption) for one in written], missing


def _title(name: str) -> str:
    """`figure4_phantom_acdc` -> `Figure 4, phantom_acdc`."""
    kind, _, dataset = name.partition("_")
    return f"{re.sub(r'(?<=[a-z])(?=[0-9])', ' ', kind).capitalize()}, {dataset}"


@contextmanager
def _alone(path: Path) -> Iterator[int]:
    """Hold a lock that only one `paper` on these runs can have; runs that it started hold it, too, until they end."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise ConfigurationError(
            f"Another `medzeroseg paper`, or a run that one has left behind, is at work on {path.parent.parent}. "
            "Wait for its end, or end it."
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _as_found(status: Status) -> Outcome:
    if status.stage is Stage.DONE:
        return Outcome(End.DONE)
    return Outcome(End.BLOCKED, reason=status.reason or "it was not run yet")


def _command(args: argparse.Namespace) -> list[str]:
    words = ["medzeroseg", "paper", str(args.paper), "--runs", str(args.runs)]
    words += ["--jobs", str(args.jobs)] if args.jobs else []
    return words + (["--", *args.overrides] if args.overrides else [])


def _has_accelerator() -> bool:
    return _accelerator() != "none"


def _accelerator() -> str:
    import torch  # seconds

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "none" if device is None or device.type == "cpu" else device.type


def _positive(word: str) -> int:
    if not word.isdigit() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1 up, got {word}")
    return int(word)
