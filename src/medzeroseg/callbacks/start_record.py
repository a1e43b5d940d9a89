"""Records with what a run was started, each time."""

import json
from datetime import UTC, datetime
from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from medzeroseg.files import write_atomically
from medzeroseg.provenance import config_hash, describe_environment, describe_job, git_revision


class StartRecord(Callback):
    """Adds an entry to `starts.json` in the run's folder when it starts and each time it goes on.

    An entry holds time (UTC), seed, revision of the code, hash of the configuration, versions, machine, world size, the
    Slurm job and its restarts, and the checkpoint it went on from. Rank 0 alone writes.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self._written = False

    @rank_zero_only
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Add the entry, once a process."""
        if self._written or trainer.fast_dev_run:  # type: ignore[attr-defined]  # set by Lightning
            return
        self._written = True
        path = Path(trainer.default_root_dir) / "starts.json"
        starts = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
        starts.append(
            {
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "seed": self.seed,
                "git_revision": git_revision(),
                "config_hash": config_hash(getattr(pl_module, "config", {})),
                "environment": describe_environment(trainer),
                "slurm": describe_job(),
                "from_checkpoint": str(trainer.ckpt_path) if trainer.ckpt_path else None,
            }
        )
        write_atomically(path, json.dumps(starts, indent=2) + "\n")

    on_test_start = on_fit_start
