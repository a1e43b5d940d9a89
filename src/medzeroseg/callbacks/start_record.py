"""Records with what a run was started, each time."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from medzeroseg.files import write_atomically
from medzeroseg.provenance import config_hash, describe_environment, describe_job, git_revision

_RECORD_NAME = "starts.json"
_ARRAY_TASK, _JOB = ("array_job_id", "array_task_id"), ("job_id",)


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
        folder = Path(trainer.default_root_dir)
        starts = _read(folder)
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
        write_atomically(folder / _RECORD_NAME, json.dumps(starts, indent=2) + "\n")

    on_test_start = on_fit_start


def started_by_this_job(folder: Path) -> bool:
    """Whether the Slurm job of this process has begun the run in a folder, or gone on with it, in one of its starts.

    Args:
        folder: A run's folder.
    """
    job = describe_job()
    names = _ARRAY_TASK if _ARRAY_TASK[0] in job else _JOB
    own = [job.get(name) for name in names]
    return None not in own and own in [[start["slurm"].get(name) for name in names] for start in _read(folder)]


def _read(folder: Path) -> list[dict[str, Any]]:
    path = folder / _RECORD_NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
