"""A generated folder that is complete or absent: lock, temporary folder, atomic rename, manifest.

Correctness rests on the rename alone; the lock only keeps the ranks of one job from doing the same work
twice. A lock that was left behind can therefore be broken without care.
"""

import hashlib
import json
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medzeroseg.imaging.errors import InputError

MANIFEST_NAME = "phantom.json"
GENERATOR_NAME = "medzeroseg phantom"

HEARTBEAT_S = 1.0
STALE_AFTER_S = 30.0
_POLL_S = 0.1
_MARK = ".partial-"
CACHE_FOLDER = ".medzeroseg_cache"
"""What a data module decoded from the phantom; it goes with the phantom."""


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a phantom folder, `None` when there is none or it cannot be read."""
    try:
        manifest = json.loads((folder / MANIFEST_NAME).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("generator") == GENERATOR_NAME else None


def complete_manifest(folder: Path, identity: Mapping[str, Any], own: re.Pattern[str]) -> dict[str, Any] | None:
    """Return the manifest if the folder is whole and was made with the same generator and parameters.

    Names and sizes of all files of the phantom are compared with the manifest, their content is not.

    Args:
        folder: Phantom folder.
        identity: Keys and values that the manifest must have.
        own: Matches the relative paths of the phantom's files; others do not count.
    """
    manifest = read_manifest(folder)
    if manifest is None or any(manifest.get(key) != value for key, value in identity.items()):
        return None
    sizes = {path: size for path, size in _walk(folder, "") if own.fullmatch(path)}
    return manifest if manifest.get("inventory_sha256") == inventory_digest(sizes) else None


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest; its presence says that everything else is there, so call this last."""
    text = json.dumps({"generator": GENERATOR_NAME, **manifest}, indent=2, sort_keys=True) + "\n"
    (folder / MANIFEST_NAME).write_text(text, "utf-8")


def inventory_digest(sizes: Mapping[str, int]) -> str:
    """Return a digest of file names (relative, with slashes) and sizes in bytes."""
    return hashlib.sha256("".join(f"{p} {s}\n" for p, s in sorted(sizes.items())).encode()).hexdigest()


def refuse_foreign(folder: Path, own: re.Pattern[str]) -> None:
    """Refuse to replace anything but a phantom.

    Args:
        folder: Where the phantom is to be written.
        own: Matches the relative paths of the phantom's files.

    Raises:
        InputError: If the folder is not empty and no phantom, or holds files that the phantom did not make.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; give a folder for the phantom with --out")
    if all(path.name == CACHE_FOLDER for path in folder.iterdir()):
        return
    if not (folder / MANIFEST_NAME).is_file() or _is_of_another_tool(folder / MANIFEST_NAME):
        raise InputError(
            f"{folder} is not empty and is no phantom (it has no {MANIFEST_NAME} of ours), so it is "
            "left as it is; give another folder with --out, or empty this one"
        )
    foreign = sorted(
        path
        for path, _ in _walk(folder, "")
        if path != MANIFEST_NAME and not path.startswith(f"{CACHE_FOLDER}/") and not own.fullmatch(path)
    )
    if foreign:
        raise InputError(
            f"{folder} would have to be generated anew, but it also holds {', '.join(foreign[:5])}"
            f"{' ...' if len(foreign) > 5 else ''}, which the phantom did not make; "
            "move these away, or give another folder with --out"
        )


@contextmanager
def work_folder(folder: Path) -> Iterator[Path]:
    """Give a new temporary folder beside `folder` and remove it at the end, with those of dead processes.

    While it is in use, its time stamp is renewed, so that others can tell it from one left behind.
    """
    prefix = f".{folder.name}{_MARK}"
    for left in folder.parent.glob(f"{prefix}*"):
        if _abandoned(left):
            shutil.rmtree(left, ignore_errors=True)
    work = folder.parent / f"{prefix}{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    work.mkdir(parents=True)
    try:
        with _heartbeat(work):
            yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def publish(work: Path, folder: Path, is_complete: Callable[[], bool]) -> bool:
    """Rename the finished `work` to `folder`, replacing an older phantom.

    Args:
        work: Finished folder beside `folder`.
        folder: Its final name.
        is_complete: Whether `folder` already holds what was to be made.

    Returns:
        Whether it was put in place; `False` if another process was first with the same content.

    Raises:
        InputError: If other processes keep putting something else in its place.
    """
    for _ in range(10):
        try:
            work.rename(folder)
        except OSError:
            if is_complete():
                return False
            if not folder.exists():
                raise
            old = work.with_name(f"{work.name}-old")
            with suppress(FileNotFoundError):  # another process may have moved it
                folder.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        else:
            return True
    raise InputError(f"{folder} is written by several processes with different parameters; give each its own --out")


class Lock:
    """A lock file beside a folder, held by at most one process at a time.

    Args:
        folder: Folder that is to be written; it need not exist.
        stale_after_s: A lock whose time stamp stands still for so long is taken to be left behind.
    """

    def __init__(self, folder: Path, stale_after_s: float = STALE_AFTER_S) -> None:
        self.path = folder.parent / f".{folder.name}.lock"
        self.stale_after_s = stale_after_s
        self._seen: tuple[int, float] = (0, 0.0)

    @contextmanager
    def hold(self) -> Iterator[bool]:
        """Try to take the lock; give whether it was taken, after a short wait if it was not."""
        owner = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"
        try:
            handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            if self._stale():
                self.path.unlink(missing_ok=True)
            else:
                time.sleep(_POLL_S)
            yield False
            return
        with os.fdopen(handle, "w") as file:
            file.write(owner)
        try:
            with _heartbeat(self.path):
                yield True
        finally:
            with suppress(OSError):
                if self.path.read_text() == owner:
                    self.path.unlink()

    def _stale(self) -> bool:
        """Whether the holder is dead, or its time stamp has stood still (by our clock, not the server's)."""
        try:
            stamp = self.path.stat().st_mtime_ns
            host, pid = self.path.read_text().split()[:2]
        except (OSError, ValueError):
            host, pid = "", "0"  # released meanwhile, or not written yet
            stamp = -1
        now = time.monotonic()
        if stamp != self._seen[0]:
            self._seen = (stamp, now)
        return _dead(host, pid) or now - self._seen[1] > self.stale_after_s


def _is_of_another_tool(path: Path) -> bool:
    """Whether the file is a readable manifest, but not ours; a damaged one is taken for ours."""
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return not (isinstance(manifest, dict) and manifest.get("generator") == GENERATOR_NAME)


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _walk(folder / entry.name, f"{prefix}{entry.name}/")
            else:
                yield f"{prefix}{entry.name}", entry.stat().st_size


@contextmanager
def _heartbeat(path: Path) -> Iterator[None]:
    """Renew the time stamp of `path` from a thread."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(HEARTBEAT_S):
            with suppress(OSError):
                os.utime(path)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _abandoned(work: Path) -> bool:
    host, _, rest = work.name.split(_MARK, 1)[1].rpartition("-")[0].rpartition("-")
    try:
        age_s = time.time() - work.stat().st_mtime
    except OSError:
        return False
    return _dead(host, rest) or age_s > 20 * STALE_AFTER_S


def _dead(host: str, pid: str) -> bool:
    """Whether the process ran on this machine and is gone."""
    if host != socket.gethostname() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
