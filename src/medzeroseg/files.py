"""Writing results so that nothing is ever half-written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from medzeroseg.errors import OutputError


@contextmanager
def atomic_stream(path: Path) -> Iterator[BinaryIO]:
    """Open a file to be written under a temporary name in its folder; it is renamed into place at the end.

    A reader sees the old content or the new, never a part, also after a power cut; a full disk leaves the old file
    whole.

    Args:
        path: The file to write; missing parent folders are made.

    Yields:
        The stream.

    Raises:
        OutputError: The folder cannot be made or written to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror}. Choose a folder that can be written.") from error
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file as `atomic_stream` does.

    Args:
        path: The file to write; missing parent folders are made.
        content: Text (written as UTF-8) or bytes.

    Raises:
        OutputError: The folder cannot be made or written to.
    """
    with atomic_stream(path) as stream:
        stream.write(content.encode("utf-8") if isinstance(content, str) else content)


def _sync_folder(folder: Path) -> None:
    # a new name is safe from a power cut only when its folder has reached the disk, too
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_writable(folder: Path) -> None:
    """Make a folder and prove that files can be written in it, before any work is done.

    Args:
        folder: The folder in which results will be written.

    Raises:
        OutputError: The folder cannot be made or written to.
    """
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"Cannot write results to {folder}: {error.strerror}. "
            "Give a folder that can be written: ARGS='--runs_dir=/path/to/runs'."
        ) from error
