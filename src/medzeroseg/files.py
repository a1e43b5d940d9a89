"""Writing results so that nothing is ever half-written."""

import os
from pathlib import Path

from medzeroseg.errors import OutputError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name in its folder, then rename it into place.

    A reader sees the old content or the new, never a part; a full disk leaves the old file whole.

    Args:
        path: The file to write; missing parent folders are made.
        content: Text (written as UTF-8) or bytes.

    Raises:
        OutputError: The folder cannot be made or written to.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True) if temporary.parent.is_dir() else None
        raise OutputError(f"Cannot write {path}: {error.strerror}. Choose a folder that can be written.") from error


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
