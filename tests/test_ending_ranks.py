"""A rank 0 that fails alone ends the ranks that it has launched."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.faults import words

# Lightning starts rank 1 with this very command line
PROGRAM = """
import os, sys, time
from pathlib import Path

from medzeroseg.errors import NonFiniteLossError
from medzeroseg.main import main
from medzeroseg.tasks.contrastive import ContrastiveTask

waits = Path(__file__).with_name("waits")


def step(task, batch, batch_idx):
    if task.global_rank == 1:
        waits.write_text(str(os.getpid()))
        time.sleep(600)
    while not waits.exists() or not waits.read_text():
        time.sleep(0.1)
    raise NonFiniteLossError("rank 0 alone has failed")


ContrastiveTask.training_step = step
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM, encoding="utf-8")
    yield path
    with suppress(FileNotFoundError, ProcessLookupError):
        os.kill(int((tmp_path / "waits").read_text()), 9)


@pytest.mark.slow
def test_rank_0_fails_alone_and_the_waiting_rank_ends(program: Path, tmp_path: Path, project_root: Path) -> None:
    command = [sys.executable, program, *words(tmp_path / "runs", tmp_path / "phantom", workers=0)]
    command += ["--trainer.devices=2", "--trainer.strategy=ddp"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(project_root)}
    log = tmp_path / "log.txt"  # a pipe would stay open as long as rank 1 lives
    with log.open("w") as stream:
        ended = subprocess.run(
            command, cwd=project_root, env=environment, stdout=stream, stderr=stream, timeout=240, check=False
        )
    told = log.read_text(encoding="utf-8")
    assert ended.returncode == 1, told[-3000:]
    assert "medzeroseg: rank 0 alone has failed" in told
    waiting = int((tmp_path / "waits").read_text())
    for _ in range(50):  # until its parent's end, or the system, has collected it
        if not _lives(waiting):
            break
        time.sleep(0.1)
    assert not _lives(waiting)


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
