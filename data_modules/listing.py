"""Looking at folders that a user named: what is missing, what may not be read."""

import os
from pathlib import Path

from medzeroseg.imaging import InputError


def require_root(root: Path, title: str, how_to_get: str) -> None:
    """Make sure that a dataset's folder is there and can be listed.

    Args:
        root: The folder.
        title: The dataset's name.
        how_to_get: Where it is obtained and under which terms; ends the message when it is missing.

    Raises:
        InputError: It is missing, no folder, or may not be listed.
    """
    if not root.exists():
        raise InputError(f"{title}: there is no folder {root}. {how_to_get}")
    if not root.is_dir():
        raise InputError(f"{title}: {root} is a file; give the folder that holds the dataset. {how_to_get}")
    list_folder(root)


def list_folder(folder: Path) -> list[str]:
    """List the names in a folder, sorted, without hidden ones.

    Raises:
        InputError: It is missing or may not be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith("."))
    except FileNotFoundError as error:
        raise InputError(f"{folder}: there is no such folder") from error
    except PermissionError as error:
        raise InputError(
            f"{folder}: the folder may not be read (no permission); ask its owner, or change its mode "
            "(chmod u+rx), or copy the dataset"
        ) from error
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror})") from error


def join(root: Path, *names: str) -> Path:
    """Name a folder below `root`; `""` is `root` itself."""
    return root.joinpath(*(name for name in names if name))
