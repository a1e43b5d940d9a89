"""Runs in processes of their own: order, side by side, failures, interruption."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from medzeroseg.errors import ConfigurationError
from medzeroseg.paper.plan import Run, Step
from medzeroseg.paper.progress import Progress
from medzeroseg.paper.running import Attempt, Times, default_jobs
from medzeroseg.paper.scheduler import End, Outcome, Schedule, execute
from medzeroseg.paper.state import Stage, Status


def build(needs: Mapping[str, Sequence[str]]) -> list[Step]:
    """Steps by name and what each needs."""
    return [
        Step(Run(name, 0), Path(f"{name}.yaml"), Path(name), {}, {Run(other, 0): Path() for other in others})
        for name, others in needs.items()
    ]


class Processes:
    """Starts a line of Python for each step and keeps what happened."""

    def __init__(self, programs: Mapping[str, str] | None = None) -> None:
        self.programs = programs or {}
        self.events: list[str] = []
        self.most = self.now = 0
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, step: Step) -> "subprocess.Popen[bytes]":
        name = step.run.experiment
        self.events.append(f"+{name}")
        self.now += 1
        self.most = max(self.most, self.now)
        words = [sys.executable, "-S", "-c", self.programs.get(name, "pass")]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
        self.started.append(process)
        return process

    def finish(self, step: Step, code: int, seconds: float) -> Outcome:
        self.events.append(f"-{step.run.experiment}")
        self.now -= 1
        return Outcome(End.DONE if code == 0 else End.FAILED, seconds, "" if code == 0 else f"exit code {code}")

    def run(self, schedule: Schedule, jobs: int) -> dict[str, End]:
        execute(
            schedule,
            jobs=jobs,
            start=self.start,
            finish=self.finish,
            tell=lambda: None,
            stopping=lambda: self.events.append("stopping"),
        )
        return {run.experiment: outcome.end for run, outcome in schedule.outcomes.items()}


def schedule(steps: list[Step], done: Sequence[str] = (), minutes: Mapping[str, float] | None = None) -> Schedule:
    stages = {step.run: Stage.DONE if step.run.experiment in done else Stage.NEW for step in steps}
    found = {run: Status(stage) for run, stage in stages.items()}
    return Schedule(steps, found, {Run(name, 0): value for name, value in (minutes or {}).items()})


def test_each_run_starts_after_what_it_needs_and_done_ones_do_not_start() -> None:
    steps = build({"a": [], "b": ["a"], "c": ["b"], "d": []})
    processes = Processes()
    ends = processes.run(schedule(steps, done=["d"]), jobs=1)
    assert processes.events == ["+a", "-a", "+b", "-b", "+c", "-c"]
    assert set(ends.values()) == {End.DONE}


def test_as_many_run_side_by_side_as_asked_for() -> None:
    steps = build({name: [] for name in "abcd"})
    for jobs in (1, 2):
        processes = Processes()
        processes.run(schedule(steps), jobs=jobs)
        assert processes.most == jobs


def test_the_run_with_the_longest_chain_behind_it_starts_first() -> None:
    steps = build({"short": [], "long": [], "base": [], "after": ["base"]})
    processes = Processes()
    processes.run(schedule(steps, minutes={"short": 1, "long": 5, "base": 2, "after": 4}), jobs=1)
    assert [event for event in processes.events if event.startswith("+")] == ["+base", "+long", "+after", "+short"]


def test_a_failure_stops_only_what_needs_it() -> None:
    steps = build({"bad": [], "needs_bad": ["bad"], "needs_that": ["needs_bad"], "good": [], "also": ["good"]})
    processes = Processes({"bad": "raise SystemExit(3)"})
    plan = schedule(steps)
    ends = processes.run(plan, jobs=2)
    assert ends["bad"] is End.FAILED
    assert ends["needs_bad"] is ends["needs_that"] is End.BLOCKED
    assert ends["good"] is ends["also"] is End.DONE
    assert plan.outcomes[Run("needs_that", 0)].reason == "it needs needs_bad, seed 0"
    assert "+needs_bad" not in processes.events


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_the_children_and_theirs(number: signal.Signals, tmp_path: Path) -> None:
    saved, ready = tmp_path / "saved", tmp_path / "ready"
    # saves when asked to end, as a training does; its own child would not end by itself
    program = f"""
import pathlib, signal, subprocess, sys, time
def save(*_):
    pathlib.Path({str(saved)!r}).touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])
part = pathlib.Path({str(ready)!r} + ".part")
part.write_text(str(child.pid))
part.rename({str(ready)!r})
time.sleep(600)
"""
    processes = Processes({"a": program})
    plan = schedule(build({"a": [], "b": ["a"]}))

    def interrupt() -> None:
        while not ready.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            processes.run(plan, jobs=2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert saved.exists()
    assert processes.started[0].poll() == 75
    assert plan.outcomes[Run("a", 0)].end is End.STOPPED
    assert not plan.running
    assert _ended(int(ready.read_text()))
    assert processes.events == ["+a", "stopping"]


def _ended(pid: int) -> bool:
    """Whether a process that is not ours has ended, within a while."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_what_started_and_ended_is_told_once() -> None:
    plan = schedule(build({"a": [], "b": ["a"], "old": []}), done=["old"])
    text = io.StringIO()
    with Progress(plan, 1, Console(file=text, width=80)) as progress:
        plan.running[Run("a", 0)] = (cast(Any, None), time.monotonic())
        progress.tell()
        progress.tell()
        del plan.running[Run("a", 0)]
        plan.outcomes[Run("a", 0)] = Outcome(End.FAILED, 3725.0, "exit code 1")
    assert text.getvalue().splitlines() == ["started  a, seed 0", "failed   a, seed 0, 1:02:05: exit code 1"]


def test_the_rest_is_guessed_only_from_known_times() -> None:
    steps = build({"a": [], "b": ["a"], "c": []})
    assert schedule(steps, minutes={"a": 1}).minutes_left(1) is None
    known = schedule(steps, minutes={"a": 2, "b": 3, "c": 4})
    assert known.minutes_left(1) == 9
    assert known.minutes_left(2) == 5  # a, then b
    assert schedule(steps, done=["a", "b", "c"]).minutes_left(2) == 0


def attempt(seed: int, seconds: float, code: int, resumed: bool = False) -> Attempt:
    return Attempt("a", seed, "2026-01-01T00:00:00Z", seconds, code, resumed, 2, 1)


def test_times_outlive_the_process_and_add_up_what_led_to_the_finish(tmp_path: Path) -> None:
    times = Times(tmp_path / "times.json")
    # an attempt that was started anew does not count; the interrupted one and the one that went on from it do
    for one in (
        attempt(0, 600, 1),
        attempt(0, 60, 75),
        attempt(0, 30, 75, True),
        attempt(0, 30, 0, True),
        attempt(1, 9, 1),
    ):
        times.add(one)
    again = Times(tmp_path / "times.json")
    assert again.attempts == times.attempts
    assert again.minutes() == {Run("a", 0): 2.0}
    assert again.guesses([Run("a", 0), Run("a", 5), Run("b", 0)]) == {Run("a", 0): 2.0, Run("a", 5): 2.0}
    (tmp_path / "times.json").write_text("[{}]", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"times\.json"):
        Times(tmp_path / "times.json")


def test_two_run_side_by_side_unless_they_would_share_a_gpu_or_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    for count, gpu, jobs in ((1, False, 1), (2, False, 2), (64, False, 2), (64, True, 1)):
        monkeypatch.setattr("medzeroseg.paper.running.cores", lambda count=count: count)
        assert default_jobs(gpu) == jobs
