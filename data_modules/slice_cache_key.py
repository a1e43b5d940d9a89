"""What names a case in the slice cache: its files' content and how they are read."""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path

from data_modules.cases import CaseSource
from medzeroseg.imaging import InputError

Stamp = tuple[int, int, int]
"""Size, time of the last write, time of the last change of the file's inode (both ns). The third also moves when a file
is replaced by one that keeps its time (`cp -p`)."""

# File systems keep times in steps of up to 2 s (FAT): a younger file may change again without showing it.
_SAFE_AGE_NS = 2_500_000_000


def digest_of(*parts: bytes) -> str:
    """Hash bytes to 40 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def digest_of_file(path: Path) -> str:
    """Hash a file's bytes to 40 hexadecimal digits.

    Raises:
        InputError: It cannot be read.
    """
    digest = hashlib.blake2b(digest_size=20)
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise unreadable(path, error) from error
    return digest.hexdigest()


def unreadable(path: Path, error: OSError) -> InputError:
    """Word the error for a file that the system does not let us read."""
    if isinstance(error, FileNotFoundError):
        return InputError(f"{path}: there is no such file")
    return InputError(f"{path}: cannot be read ({error.strerror or error})")


def file_stamps(source: CaseSource) -> list[Stamp]:
    """Look at the files of a case without reading them.

    Raises:
        InputError: One is missing.
    """
    stamps = []
    for path in source.files:
        try:
            status = path.stat()
        except OSError as error:
            raise unreadable(path, error) from error
        stamps.append((status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    return stamps


def recipe(source: CaseSource) -> str:
    """Describe how a case is read, without where it lies: the source's class and settings.

    Paths are replaced by their place among the source's files.

    Raises:
        TypeError: The source, or something in it, is neither a dataclass nor a plain value.
    """
    places = {path: number for number, path in enumerate(source.files)}

    def plain(value: object) -> object:
        if isinstance(value, Path):
            return {"file": places[value]} if value in places else {"path": str(value)}
        if is_dataclass(value) and not isinstance(value, type):
            name = f"{type(value).__module__}.{type(value).__qualname__}"
            return {name: {field.name: plain(getattr(value, field.name)) for field in fields(value)}}
        if isinstance(value, Enum):
            return value.name
        if isinstance(value, tuple | list):
            return [plain(part) for part in value]
        if isinstance(value, Mapping):
            return [[plain(key), plain(part)] for key, part in value.items()]
        if value is None or isinstance(value, str | int | float):
            return value
        raise TypeError(
            f"{type(source).__name__} holds a {type(value).__name__}, which cannot name a cache entry: a case source "
            "is a dataclass of paths, numbers, texts, tuples and such dataclasses"
        )

    return json.dumps(plain(source))


def content_key(source: CaseSource, how: str, version: int) -> str:
    """Name a case by the bytes of its files, its recipe (`how`) and the version of the preprocessing.

    Raises:
        InputError: A file cannot be read.
    """
    return digest_of(json.dumps([version, how, *map(digest_of_file, source.files)]).encode())


class StampBook:
    """Remembers the key of files that were hashed, as long as their stamps stay the same."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; it is made on the first write.

        Args:
            folder: Where the stamps lie, one small file a case.
        """
        self.folder = folder

    def key(self, source: CaseSource, how: str, version: int, stamps: list[Stamp]) -> str | None:
        """Give a remembered key, or None when a file is new, changed, or was too young to be trusted."""
        try:
            kept = json.loads(self._file(source, how, version).read_text(encoding="utf-8"))
            trusted = [tuple(stamp) for stamp in kept["stamps"]] == stamps
            return str(kept["key"]) if trusted else None
        except (OSError, ValueError, KeyError, TypeError):
            return None  # nothing is lost: the files are hashed again

    def remember(self, source: CaseSource, how: str, version: int, stamps: list[Stamp], key: str) -> None:
        """Keep the key of files that have been at rest for a while; raises `OSError` when that cannot be written."""
        youngest = max(max(stamp[1:]) for stamp in stamps)
        if time.time_ns() - youngest < _SAFE_AGE_NS:
            return
        file = self._file(source, how, version)
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = file.with_name(f".{file.name}.{time.time_ns()}.{id(source)}.tmp")
        try:
            temporary.write_text(json.dumps({"key": key, "stamps": stamps}), encoding="utf-8")
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)

    def _file(self, source: CaseSource, how: str, version: int) -> Path:
        where = [str(path.absolute()) for path in source.files]
        return self.folder / f"{digest_of(json.dumps([version, how, *where]).encode())}.json"
