"""Comma-separated files of image names and captions, as ROCO version 2 and MedPix are distributed."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from medzeroseg.imaging import InputError

# Python's own limit, 128 KiB, is what an unclosed quote runs into after it has swallowed hundreds of rows.
_MAX_FIELD_CHARACTERS = 20_000


class CsvRow(NamedTuple):
    """One row: the line at which it ends, its key and its text."""

    line: int
    key: str
    text: str


def read_csv_pairs(path: Path, key: str, text: str) -> Iterator[CsvRow]:
    r"""Read two named columns of a comma-separated UTF-8 file with a header.

    Fields may be quoted and then hold commas, doubled quotes and line ends; runs of white space become single
    spaces. Other columns are left alone.

    Args:
        path: The file.
        key: Header of the first column wanted ("ID").
        text: Header of the second ("Caption").

    Yields:
        The rows in the file's order; blank lines are passed over.

    Raises:
        InputError: The file cannot be read, is not UTF-8, lacks a column, or a row cannot be trusted: too few
            fields, no key, or a quote that is never closed. Names the file and the line.
    """
    stream = io.StringIO(_text(path), newline="")
    rows = csv.reader(stream, strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        absent = [name for name in (key, text) if name not in header]
        if absent:
            raise InputError(
                f"{path}, line 1: no column '{absent[0]}'; expected {key},{text}, "
                f"found {','.join(header)[:60] or 'nothing'}"
            )
        at_key, at_text = header.index(key), header.index(text)
        for row in rows:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{path}, line {rows.line_num}: {len(row)} fields where the header has {len(header)}; "
                    f"a caption with commas must be in quotes (it begins {_shown(row[0])})"
                )
            name = row[at_key].strip()
            if not name:
                raise InputError(f"{path}, line {rows.line_num}: the field '{key}' is empty")
            if len(row[at_text]) > _MAX_FIELD_CHARACTERS:
                raise InputError(f"{path}, line {rows.line_num}: {_unclosed(name)}")
            yield CsvRow(rows.line_num, name, " ".join(row[at_text].split()))
    except csv.Error as error:
        raise InputError(
            f"{path}, line {rows.line_num}: not well-formed CSV ({error}); a quote is not closed or not doubled"
        ) from error


def _unclosed(name: str) -> str:
    return (
        f"the caption of {_shown(name)} has over {_MAX_FIELD_CHARACTERS:,} characters; a quote before it is not closed"
    )


def _shown(text: str) -> str:
    return repr(re.sub(r"\s+", " ", text)[:40])


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {number}: not UTF-8 ({error.reason}); convert the file") from error
