"""Checkpoints that are never half-written."""

from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from medzeroseg.errors import OutputError
from medzeroseg.files import atomic_stream


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the old checkpoint, waits for the disk, and renames: `kill -9` or a full disk leave the old whole.

    Lightning's own writer copies from another file system, without waiting for the disk.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401 - Lightning's
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: What `Trainer.save_checkpoint` collects.
            path: The file.
            storage_options: Of other writers; none here.

        Raises:
            OutputError: It cannot be written; what was there before is as it was.
        """
        target = Path(path)
        for leftover in target.parent.glob(f".{target.name}.*.tmp"):  # of a process that was killed
            leftover.unlink(missing_ok=True)
        try:
            with atomic_stream(target) as stream:
                torch.save(checkpoint, stream)
        except (OutputError, RuntimeError) as error:
            # torch's zip writer speaks of an unexpected position where the stream has failed
            reason = error.__context__ if isinstance(error.__context__, OSError) else error
            kept = "the one before is whole" if target.is_file() else "there was none before"
            raise OutputError(
                f"Cannot write the checkpoint {target} ({reason}); {kept}. Make room, then go on with RESUME=1."
            ) from error
