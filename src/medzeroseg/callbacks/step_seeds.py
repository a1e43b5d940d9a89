"""Random numbers of a training step that depend on the step alone."""

import hashlib
from typing import Any

from lightning.fabric.utilities.seed import seed_everything
from lightning.pytorch import Callback, LightningModule, Trainer


class StepSeeds(Callback):
    """Seeds every generator of the process before each training batch from (seed, epoch, batch, rank).

    So dropout and the like draw the same numbers whether the run was resumed or not, and whatever validation and
    callbacks have drawn in between; ranks draw different ones. Nothing has to be kept in checkpoints. What the
    data modules draw for an item, in whichever process, they seed by the item.

    Args:
        seed: The run's seed.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401 - any batch
        batch_idx: int,
    ) -> None:
        """Seed Python's, NumPy's and torch's generators, those of all devices."""
        key = f"{self.seed}/{trainer.current_epoch}/{batch_idx}/{trainer.global_rank}"
        digest = hashlib.blake2b(key.encode(), digest_size=4).digest()
        seed_everything(int.from_bytes(digest, "big"), verbose=False)
