"""Runs forked from a process that has imported their modules: streams, exit codes, signals, what is held open."""

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

MODULE = """
    import os, signal, sys, time

    IMPORTED_BY = os.getpid()

    def tell(words):
        print("words", words, sys.argv, os.environ.get("WORD"))
        print("threads", os.environ["OMP_NUM_THREADS"], "imported before", IMPORTED_BY != os.getpid())
        print("leads", os.getpgrp() == os.getpid(), "in", os.getcwd())
        print("complains", file=sys.stderr)
        return 3

    def fail(words):
        raise ValueError("at fault")

    def stay(words):
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        print("stays", flush=True)
        time.sleep(600)
"""
HEAD = """
    import os, signal, subprocess, sys, time
    from pathlib import Path
    from medzeroseg.paper.warm import WarmStart

    log, lock = Path("log"), os.open("lock", os.O_RDWR | os.O_CREAT)

    def until_it_stays():
        while not log.exists() or "stays" not in log.read_text():
            time.sleep(0.05)
"""
GUARD = "if __name__ == '__main__':\n"


def run(folder: Path, body: str, expect: int = 0) -> str:
    """Run a program that starts processes, in a Python of its own: a process has one fork server only."""
    (folder / "stand_in.py").write_text(textwrap.dedent(MODULE), encoding="utf-8")
    program = textwrap.dedent(HEAD) + GUARD + textwrap.indent(textwrap.dedent(body), "    ")
    (folder / "program.py").write_text(program, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": str(folder)}
    shown = folder / "shown"
    with shown.open("w") as stream:  # no pipe: what the program leaves behind would hold it open
        done = subprocess.run(
            [sys.executable, "program.py"], cwd=folder, env=environment, stdout=stream, stderr=stream, timeout=120
        )
    assert done.returncode == expect, shown.read_text()
    return shown.read_text()


def test_a_process_has_its_words_log_group_and_environment(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        warm = WarmStart(["stand_in"], threads=5)
        warm.prepare()
        log.write_text("before\\n")
        for word in ("one", "two"):
            os.environ["WORD"] = word
            process = warm.start("stand_in:tell", ["train", word], log, lock)
            assert process.wait(60) == 3 and process.poll() == 3
        assert "OMP_NUM_THREADS" not in os.environ or os.environ["OMP_NUM_THREADS"] != "5"
        """,
    )
    lines = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    told = [
        line
        for word in ("one", "two")
        for line in (
            f"words ['train', '{word}'] ['medzeroseg', 'train', '{word}'] {word}",
            "threads 5 imported before True",
            f"leads True in {tmp_path.resolve()}",
            "complains",
        )
    ]
    assert lines[0] == "before"  # it is added to
    assert sorted(lines[1:]) == sorted(told)  # the two streams are buffered apart


def test_a_fault_and_a_signal_become_exit_codes(tmp_path: Path) -> None:
    run(
        tmp_path,
        """
        warm = WarmStart([], threads=1)
        assert warm.start("stand_in:fail", ["train"], log, lock).wait(60) == 1
        assert "ValueError: at fault" in log.read_text()
        process = warm.start("stand_in:stay", ["train"], log, lock)
        until_it_stays()
        assert process.poll() is None
        try:
            process.wait(0.1)
        except subprocess.TimeoutExpired:
            pass
        else:
            raise AssertionError
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 7
        process.send_signal(signal.SIGTERM)  # too late, and no fault
        log.unlink()
        process = warm.start("stand_in:stay", ["train"], log, lock)
        until_it_stays()
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        """,
    )


def test_a_lock_outlives_the_process_that_started_a_run(tmp_path: Path) -> None:
    out = run(
        tmp_path,
        """
        import fcntl
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = WarmStart([], threads=1).start("stand_in:stay", ["train"], log, lock)
        until_it_stays()
        print(process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        expect=-signal.SIGKILL,
    )
    with (tmp_path / "lock").open() as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.killpg(int(out), signal.SIGKILL)
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits for its end
