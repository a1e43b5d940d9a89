"""Opening input files, with one sentence for each way in which that fails."""

import zlib
from pathlib import Path

from medzeroseg.imaging.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"
_LARGEST_DEFLATE_RATIO = 1040
"""Deflate cannot shrink by more than about 1032; a header that claims more is wrong."""


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """Read a file, or its first `most` bytes.

    Raises:
        InputError: It is missing, a folder, empty, or may not be read.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read() if most is None else stream.read(most)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise InputError(f"{path}: this is a folder, not a file") from None
    except PermissionError:
        raise InputError(f"{path}: the file may not be read (no permission)") from None
    except OSError as error:
        raise InputError(f"{path}: the file cannot be read ({error.strerror})") from None
    if not content:
        raise InputError(f"{path}: the file is empty (0 bytes); fetch or export it again")
    return content


class GzipReader:
    """Inflates a gzip file once, piece by piece, and never beyond what is asked for.

    Args:
        path: Named in errors.
        content: The compressed file.

    Raises:
        InputError: The content is damaged or ends early (from every method).
    """

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = path
        self._size = len(content)
        self._rest = content
        self._stream = zlib.decompressobj(wbits=31)

    def read(self, count: int, *, less_at_end: bool = False) -> bytes:
        """Return the next `count` bytes; fewer at the end of the file only where `less_at_end` allows it."""
        if count > self._size * _LARGEST_DEFLATE_RATIO:
            raise InputError(f"{self._path}: the file is truncated or its header is wrong; fetch or export it again")
        pieces = []
        while count > 0:
            at_end = self._stream.eof and not self._rest
            if at_end and less_at_end:
                break
            piece = b"" if at_end else self._inflate(count)
            if not piece and not self._rest:
                raise InputError(f"{self._path}: the gzip file is truncated; fetch or export it again")
            pieces.append(piece)
            count -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def check_end(self) -> None:
        """Read on to the checksum at the end, which also shows a file cut off in its last bytes."""
        while not self._stream.eof:
            if not self._rest:
                raise InputError(f"{self._path}: the gzip file is truncated; fetch or export it again")
            self._inflate(1 << 20)

    def _inflate(self, most: int) -> bytes:
        if self._stream.eof:  # a gzip file may hold several members, one after the other
            self._stream = zlib.decompressobj(wbits=31)
        try:
            piece = self._stream.decompress(self._rest, most)
        except zlib.error:
            raise InputError(f"{self._path}: the gzip file is damaged; fetch or export it again") from None
        self._rest = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        return piece
