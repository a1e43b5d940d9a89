"""Signals that ask a training to stop: noted when they come, obeyed between two steps."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from types import FrameType

from medzeroseg.errors import StoppedError


class StopRequest(IntEnum):
    """What is asked for; the larger wins where ranks were asked for different things."""

    NONE = 0
    END = 1
    """SIGTERM: save and end."""
    REQUEUE = 2
    """SIGUSR1, which Slurm sends before the time limit or a preemption: save, and run again later."""


@dataclass
class _State:
    requested: StopRequest = StopRequest.NONE
    listening: bool = False
    stepping: bool = False  # somebody looks at the request between steps


_state = _State()  # signals are the process's, and so is this
_MEANING = {signal.SIGTERM: StopRequest.END, signal.SIGUSR1: StopRequest.REQUEUE}


@contextmanager
def listening() -> Iterator[None]:
    """Note the signals instead of dying of them; before the first step, SIGTERM ends the process as it always does.

    Lightning's own handlers save wherever the signal has interrupted the program, which may be in the middle of an
    optimizer's step, and call collectives that the other ranks do not expect.
    """
    if threading.current_thread() is not threading.main_thread():  # no other may have handlers
        yield
        return
    before = {signum: signal.getsignal(signum) for signum in _MEANING}
    _state.requested, _state.listening, _state.stepping = StopRequest.NONE, True, False
    _register()
    try:
        yield
    finally:
        _state.listening = False
        for signum, handler in before.items():
            signal.signal(signum, handler)


def take_over() -> None:
    """Promise to look at `requested` from now on, and take the signals back from whoever has registered for them."""
    if _state.listening:
        _state.stepping = True
        _register()


def requested() -> StopRequest:
    """What this process has been asked for."""
    return _state.requested if _state.listening else StopRequest.NONE


def _register() -> None:
    for signum in _MEANING:
        signal.signal(signum, _note)


def _note(signum: int, frame: FrameType | None) -> None:
    meaning = _MEANING[signal.Signals(signum)]
    _state.requested = max(_state.requested, meaning)
    if meaning is StopRequest.END and not _state.stepping:
        raise StoppedError("Stopped by SIGTERM before the first step.")


def _leave_children_alone() -> None:
    # Readers of data must die of SIGTERM, and not of a SIGUSR1 that Slurm sends to every process of the job.
    if _state.listening:
        _state.listening = False
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)


os.register_at_fork(after_in_child=_leave_children_alone)
