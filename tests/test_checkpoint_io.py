"""A checkpoint is the old one or the new one, never a part."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from medzeroseg import files
from medzeroseg.checkpoint_io import AtomicCheckpointIO
from medzeroseg.errors import OutputError


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one checkpoint and a half."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def checkpoint(value: float) -> dict[str, torch.Tensor]:
    return {"state_dict": torch.full((2**18,), value)}  # 1 MiB


def test_a_full_disk_leaves_the_checkpoint_before_whole(full_disk: Path) -> None:
    path = full_disk / "checkpoints" / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(checkpoint(1.0), path)
    with pytest.raises(OutputError, match=r"No space left.*the one before is whole.*RESUME=1") as caught:
        AtomicCheckpointIO().save_checkpoint(checkpoint(2.0), path)
    assert str(path) in str(caught.value)
    assert torch.load(path, weights_only=True)["state_dict"][0] == 1.0
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_a_limit_on_the_size_of_files_is_told_too(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    try:
        with pytest.raises(OutputError, match=r"File too large.*there was none before"):
            AtomicCheckpointIO().save_checkpoint(checkpoint(1.0), tmp_path / "last.ckpt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


# A process of its own rather than a fork: a fork of a process that has threads may wait for their locks for ever.
KILLED_BEFORE_RENAMING = """
import os, signal, sys
from pathlib import Path
import torch
from medzeroseg.checkpoint_io import AtomicCheckpointIO

Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
AtomicCheckpointIO().save_checkpoint({"state_dict": torch.full((2**18,), 2.0)}, Path(sys.argv[1]))
"""


def test_a_writer_that_is_killed_leaves_the_old_file_and_its_leftovers_go_at_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint(checkpoint(1.0), path)
    ended = subprocess.run([sys.executable, "-c", KILLED_BEFORE_RENAMING, path])
    assert ended.returncode == -signal.SIGKILL
    assert torch.load(path, weights_only=True)["state_dict"][0] == 1.0
    assert len(list(tmp_path.iterdir())) == 2
    AtomicCheckpointIO().save_checkpoint(checkpoint(3.0), path)
    assert torch.load(path, weights_only=True)["state_dict"][0] == 3.0
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_the_file_reaches_the_disk_before_its_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def note_fsync(descriptor: int) -> None:
        order.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        fsync(descriptor)

    def note_replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr(files.os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "replace", note_replace)
    AtomicCheckpointIO().save_checkpoint(checkpoint(1.0), tmp_path / "last.ckpt")
    assert order == ["file", "rename", "folder"]
