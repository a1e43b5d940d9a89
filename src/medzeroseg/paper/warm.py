"""Starts runs from a process that has imported what they need: the imports of twenty runs take minutes."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from multiprocessing import forkserver, reduction
from pathlib import Path
from typing import Any


class WarmProcess:
    """A process of a `WarmStart`, with what the scheduler needs of `subprocess.Popen`."""

    def __init__(self, process: Any) -> None:  # noqa: ANN401 - a class of the context, without a public name
        self._process = process
        self.pid = int(process.pid)

    def poll(self) -> int | None:
        """Exit code, the negative number of the signal that ended it, or None while it runs."""
        code: int | None = self._process.exitcode
        return code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(str(self._process.name), timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)


class WarmStart:
    """Forks processes from one that has imported modules and done nothing else (Python's fork server).

    That one process has no threads, so a fork of it is safe, and random numbers are as in any other start: a run seeds
    its own. Not for machines with a GPU: what an import does there may not survive a fork.

    Args:
        modules: To be imported beforehand, by name.
        threads: Of each process's arithmetic; set before torch is imported.
    """

    def __init__(self, modules: Sequence[str], threads: int) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(list(modules))
        self._threads = threads

    def prepare(self) -> None:
        """Let the imports begin; this process goes on with something else."""
        with _environment(self._environment()):
            forkserver.ensure_running()

    def start(self, target: str, words: Sequence[str], log: Path, held: int) -> WarmProcess:
        """Call a function in a process and a process group of its own.

        Args:
            target: `module:function`; it takes the words and returns the exit code.
            words: A command line.
            log: What the process prints is added to it.
            held: A file descriptor that the process holds open as long as it lives.
        """
        environment = self._environment()
        arguments = (target, list(words), str(log), environment, _Held(held))
        process = self._context.Process(target=_run, args=arguments, name=f"{words[0]} {log.stem}")
        with _environment(environment):  # where nothing was prepared, this starts the server, which inherits it
            process.start()
        return WarmProcess(process)

    def _environment(self) -> dict[str, str]:
        return os.environ | {"OMP_NUM_THREADS": str(self._threads)}


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class _Held:
    """A file descriptor, sent to another process."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __reduce__(self) -> tuple[Callable[..., "_Held"], tuple[Any]]:
        return _received, (reduction.DupFd(self.descriptor),)


def _received(sent: Any) -> _Held:  # noqa: ANN401 - it has no public name
    return _Held(sent.detach())


def _run(target: str, words: list[str], log: str, environment: dict[str, str], _held: _Held) -> None:
    os.environ.clear()
    os.environ.update(environment)  # as it is now, not as it was when the server was started
    os.setsid()  # Ctrl-C in the terminal comes to the scheduler alone
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv = ["medzeroseg", *words]
    module, _, name = target.partition(":")
    sys.exit(getattr(import_module(module), name)(words))
