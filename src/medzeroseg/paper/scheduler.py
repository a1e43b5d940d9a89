"""Runs steps in processes of their own, side by side where they do not wait for each other."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from medzeroseg.paper.plan import Run, Step
from medzeroseg.paper.state import Stage, Status

GRACE_S = 60.0
"""How long a run has to save its checkpoint when it is asked to stop."""
_POLL_S = 0.2


class Process(Protocol):
    """A process that leads a group of its own: what is needed of `subprocess.Popen`."""

    @property
    def pid(self) -> int:
        """Of the process and its group."""

    def poll(self) -> int | None:
        """Exit code, or None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; `subprocess.TimeoutExpired` if it does not come."""

    def send_signal(self, number: int, /) -> None:
        """Send a signal."""


class End(StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    BLOCKED = "not started"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        end: How it ended.
        seconds: Wall-clock of this attempt; 0 if there was none.
        reason: Why it is not done.
    """

    end: End
    seconds: float = 0.0
    reason: str = ""


class Schedule:
    """What runs, what waits and what has ended.

    Args:
        steps: In order.
        found: What is done already.
        minutes: Known or guessed run times: of the runs that can start, the one with the longest chain behind it
            starts first.
    """

    def __init__(self, steps: Sequence[Step], found: Mapping[Run, Status], minutes: Mapping[Run, float]) -> None:
        self.waiting = {step.run: step for step in steps if found[step.run].stage is not Stage.DONE}
        self.running: dict[Run, tuple[Process, float]] = {}
        self.outcomes = {step.run: Outcome(End.DONE) for step in steps if step.run not in self.waiting}
        self.known = minutes
        guess = sum(minutes.values()) / len(minutes) if minutes else 1.0
        self._minutes = {step.run: minutes.get(step.run, guess) for step in steps}
        self._chain: dict[Run, float] = {}
        for step in reversed(steps):
            behind = [self._chain[other.run] for other in steps if step.run in other.needs]
            self._chain[step.run] = self._minutes[step.run] + max(behind, default=0.0)

    def next(self) -> Step | None:
        """The waiting step that should start now, or None; steps whose needs have failed are given up."""
        for run, step in list(self.waiting.items()):
            lost = [need for need in step.needs if self.outcomes.get(need, Outcome(End.DONE)).end is not End.DONE]
            if lost:
                del self.waiting[run]
                reason = f"it needs {', '.join(map(str, lost))}"
                self.outcomes[run] = Outcome(End.BLOCKED, reason=reason)
        free = [step for step in self.waiting.values() if all(need in self.outcomes for need in step.needs)]
        return max(free, key=lambda step: self._chain[step.run], default=None)

    def minutes_left(self, jobs: int) -> float | None:
        """How long the rest will take, from earlier run times; None where one is not known."""
        if not self.known.keys() >= {*self.waiting, *self.running}:
            return None
        now = time.monotonic()
        left = [max(0.0, self._minutes[run] - (now - start) / 60) for run, (_, start) in self.running.items()]
        longest = max([*left, *(self._chain[run] for run in self.waiting)], default=0.0)
        return max(longest, (sum(left) + sum(self._minutes[run] for run in self.waiting)) / jobs)


def execute(
    schedule: Schedule,
    *,
    jobs: int,
    start: Callable[[Step], Process],
    finish: Callable[[Step, int, float], Outcome],
    tell: Callable[[], None],
    stopping: Callable[[], None],
) -> None:
    """Run all steps of a schedule; a failed one does not stop those that do not need it.

    Args:
        schedule: Its outcomes are filled in.
        jobs: How many run side by side.
        start: Starts a step's process, in a process group of its own.
        finish: From a step, its exit code and its seconds to what became of it.
        tell: Called several times a second, to show how it goes.
        stopping: Called when an interruption begins to end what runs, which may take a minute.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came; the running processes were asked to save and stop, and have ended.
    """
    steps = dict(schedule.waiting)
    with _terminated_as_interrupted():
        try:
            while schedule.waiting or schedule.running:
                _collect(schedule, steps, finish)
                while len(schedule.running) < jobs and (step := schedule.next()) is not None:
                    del schedule.waiting[step.run]
                    schedule.running[step.run] = (start(step), time.monotonic())
                tell()
                time.sleep(_POLL_S)
        finally:
            if schedule.running:
                stopping()
                _stop(schedule)


def _collect(schedule: Schedule, steps: Mapping[Run, Step], finish: Callable[[Step, int, float], Outcome]) -> None:
    for run, (process, begun) in list(schedule.running.items()):
        code = process.poll()
        if code is not None:
            del schedule.running[run]
            schedule.outcomes[run] = finish(steps[run], code, time.monotonic() - begun)


def _stop(schedule: Schedule) -> None:
    """Ask what still runs to save and end (SIGTERM); kill what does not within the grace."""
    processes = {run: process for run, (process, _) in schedule.running.items()}
    for process in processes.values():
        process.send_signal(signal.SIGTERM)
    until = time.monotonic() + GRACE_S
    for run, process in processes.items():
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=max(0.0, until - time.monotonic()))
        _kill_group(process)
        process.wait()
        del schedule.running[run]
        schedule.outcomes[run] = Outcome(End.STOPPED, reason="it was interrupted; the same command goes on with it")


def _kill_group(process: Process) -> None:
    # its workers too, which a process that was killed leaves behind
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
