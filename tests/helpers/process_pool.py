"""Run functions in several gloo processes, started once a session.

Importing torch is what takes the time: a fork server imports it once, and the workers, also those that replace a
dead one, are its forks.

    results = run_in_processes(function, 3, *arguments)      # one result a rank

`function(*arguments)` runs in each of the first three workers, inside a fresh process group of three. It must be a
module-level function. A worker that raises, dies or is silent too long fails the test and never hangs it; after the
latter two the next call starts new workers.
"""

from __future__ import annotations

import atexit
import itertools
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

WORKERS = 3
SILENCE_S = 60.0


class WorkerError(AssertionError):
    """A worker raised, died, or did not answer in time."""


class ProcessPool:
    """Workers that wait for functions to run; `close` ends them."""

    def __init__(self, workers: int = WORKERS) -> None:
        context = multiprocessing.get_context("forkserver")
        # torch._dynamo is what DDP and the optimizers import on their first use
        context.set_forkserver_preload(["torch", "torch._dynamo", "pytest", "medzeroseg.losses"])
        self._folder = tempfile.TemporaryDirectory(prefix="process_pool_")
        self._calls = itertools.count()
        self._workers: list[tuple[Any, Connection]] = []
        inherited = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = "1"  # read when the server imports torch
        try:
            for _ in range(workers):
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
                theirs.close()
                self._workers.append((process, ours))
        finally:
            if inherited is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = inherited

    @property
    def usable(self) -> bool:
        """Whether every worker is alive."""
        return bool(self._workers) and all(process.is_alive() for process, _ in self._workers)

    def run(self, function: Callable[..., Any], processes: int, *arguments: Any, silence_s: float = SILENCE_S):
        """One result a rank, in rank order."""
        # A file as the meeting point: no port to find free and lose again.
        meeting_point = Path(self._folder.name) / f"call_{next(self._calls)}"
        team = self._workers[:processes]
        for rank, (_, connection) in enumerate(team):
            connection.send((function, arguments, rank, processes, str(meeting_point), silence_s))
        results: dict[int, Any] = {}
        failures: dict[int, str] = {}
        deadline = time.monotonic() + silence_s
        while len(results) + len(failures) < processes:
            waiting = [r for r in range(processes) if r not in results and r not in failures]
            ready = wait([team[r][1] for r in waiting], timeout=max(0.0, deadline - time.monotonic()))
            if not ready:
                self.close()
                raise WorkerError(f"ranks {waiting} did not answer within {silence_s:g} s" + _listed(failures))
            for rank in [r for r in waiting if team[r][1] in ready]:
                try:
                    succeeded, answer = team[rank][1].recv()
                except EOFError:
                    team[rank][0].join(5)
                    code = team[rank][0].exitcode
                    self.close()
                    raise WorkerError(f"rank {rank} died (exit code {code})" + _listed(failures)) from None
                (results if succeeded else failures)[rank] = answer
                if not succeeded:  # the others may wait for it in a collective: not for long
                    deadline = min(deadline, time.monotonic() + 10.0)
        if failures:
            raise WorkerError("in a worker:" + _listed(failures))
        return [results[rank] for rank in range(processes)]

    def close(self) -> None:
        """End the workers."""
        for process, connection in self._workers:
            connection.close()
            process.terminate()
        for process, _ in self._workers:
            process.join(5)
        self._workers = []
        self._folder.cleanup()


def _listed(failures: dict[int, str]) -> str:
    return "".join(f"\n--- rank {rank} ---\n{text}" for rank, text in sorted(failures.items()))


def _serve(connection: Connection) -> None:
    import torch
    from torch import distributed

    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # the host's name need not resolve
    torch.set_num_threads(1)
    while True:
        try:
            function, arguments, rank, processes, meeting_point, silence_s = connection.recv()
        except EOFError:
            return
        try:
            distributed.init_process_group(
                "gloo",
                init_method=f"file://{meeting_point}",
                rank=rank,
                world_size=processes,
                timeout=timedelta(seconds=silence_s),
            )
            answer = (True, function(*arguments))
        except Exception:
            answer = (False, traceback.format_exc())
        finally:
            if distributed.is_initialized():
                distributed.destroy_process_group()
        connection.send(answer)


_shared: ProcessPool | None = None


def run_in_processes(function: Callable[..., Any], processes: int, *arguments: Any, silence_s: float = SILENCE_S):
    """:meth:`ProcessPool.run` on the session's pool."""
    global _shared
    if _shared is None or not _shared.usable:
        if _shared is not None:
            _shared.close()
        else:
            atexit.register(lambda: _shared is not None and _shared.close())
        _shared = ProcessPool()
    return _shared.run(function, processes, *arguments, silence_s=silence_s)
