"""The folder of one run: making room for a new one."""

from datetime import datetime
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from medzeroseg.errors import OutputError

ARCHIVE = "archive"
_MARKS = ("config.yaml", "checkpoints")  # what a run leaves; a folder without them is not ours to move


@rank_zero_only
def archive(folder: Path) -> None:
    """Move an earlier run to `archive/` beside it: nothing already written is lost.

    Args:
        folder: A run's folder; one that holds no run is left alone.

    Raises:
        OutputError: It cannot be moved.
    """
    if not any((folder / mark).exists() for mark in _MARKS):
        return
    when = datetime.fromtimestamp(folder.stat().st_mtime).strftime("%Y%m%d-%H%M%S-%f")
    # not named seed_*: the tables count those
    target = folder.parent / ARCHIVE / f"{when}_{folder.name}"
    try:
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)
    except OSError as error:
        raise OutputError(f"Cannot move the earlier run {folder} to {target}: {error.strerror}.") from error
    rank_zero_info(f"The earlier run was moved to {target}.")
