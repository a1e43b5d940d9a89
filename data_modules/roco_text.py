"""Readers of ROCO's text files: captions, terms (keywords, concepts) and licences."""

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from medzeroseg.imaging import InputError


class Licence(NamedTuple):
    """Where an image comes from and what may be done with it."""

    pmc_id: str
    licence: str


@dataclass(frozen=True)
class Captions:
    """The captions of one folder.

    Attributes:
        texts: Image id to caption, in the file's order; a caption may be empty.
        repeated: Ids that came again with the same caption (read once).
    """

    texts: dict[str, str]
    repeated: list[str] = field(default_factory=list)


def read_captions(path: Path) -> Captions:
    r"""Read `captions.txt`: one `ROCO_00001<TAB> caption` a line, UTF-8, no header, no quoting.

    The first tab divides; tabs inside a caption and the space before it are tidied to single spaces. Windows
    line ends and a byte order mark are taken off. Other characters that Python counts as line ends stay in
    the caption.

    Raises:
        InputError: The file cannot be read, is not UTF-8, or a line has no tab, or an id has two different
            captions; names the file and the line.
    """
    texts: dict[str, str] = {}
    repeated = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        image_id, tab, rest = line.partition("\t")
        image_id = image_id.strip()
        caption = " ".join(rest.split())
        if not image_id or " " in image_id or (not tab and not image_id.startswith("ROCO_")):
            raise InputError(
                f"{path}, line {number}: expected an image id, a tab and a caption, found {line[:60]!r}; "
                "a caption must not run over several lines"
            )
        if image_id not in texts:
            texts[image_id] = caption
        elif texts[image_id] == caption:
            repeated.append(image_id)
        else:
            raise InputError(f"{path}, line {number}: {image_id} has a second, different caption; remove the wrong one")
    return Captions(texts, repeated)


def read_terms(path: Path) -> dict[str, tuple[str, ...]]:
    r"""Read `keywords.txt` or `cuis.txt`: `ID<TAB><TAB>term<TAB>term`, or `ID<TAB>` when there are none.

    Returns:
        Image id to its terms, in the file's order.

    Raises:
        InputError: The file cannot be read or is not UTF-8.
    """
    terms = {}
    for line in _lines(path):
        image_id, *fields = line.split("\t")
        if image_id.strip():
            terms[image_id.strip()] = tuple(term for text in fields if (term := text.strip()))
    return terms


def read_licences(path: Path) -> dict[str, Licence]:
    """Read `licences.txt`: comma-separated `ROCO_ID,PMC_ID,CC` with a header.

    Raises:
        InputError: The file cannot be read, is not UTF-8, or a row has other than three fields.
    """
    licences = {}
    for number, row in enumerate(csv.reader(_lines(path)), start=1):
        if not row or row[0] == "ROCO_ID":
            continue
        if len(row) != 3:
            raise InputError(f"{path}, line {number}: expected ROCO_ID,PMC_ID,CC, found {','.join(row)[:60]!r}")
        licences[row[0].strip()] = Licence(row[1].strip(), row[2].strip())
    return licences


def most_common_terms(terms: dict[str, tuple[str, ...]], count: int) -> list[str]:
    """Name the terms that the most images have; alphabetical where they tie."""
    frequency = Counter(term for listed in terms.values() for term in set(listed))
    return [term for term, _ in sorted(frequency.items(), key=lambda pair: (-pair[1], pair[0]))[:count]]


def _lines(path: Path) -> list[str]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {number}: not UTF-8 ({error.reason}); convert the file") from error
    # Not `splitlines`: it would also break captions at form feeds, U+0085 and U+2028.
    return [line.removesuffix("\r") for line in text.split("\n")]
