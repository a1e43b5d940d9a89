"""What tests of the phantom's files compare."""

import hashlib
from pathlib import Path


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def traces(folder: Path) -> list[str]:
    """Hidden files that generation left beside the folder."""
    return [path.name for path in folder.parent.iterdir() if path.name.startswith(".")]
