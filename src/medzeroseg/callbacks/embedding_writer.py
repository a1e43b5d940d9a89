"""Saving what `medzeroseg predict` computes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from safetensors.torch import save

from medzeroseg.files import write_atomically


class EmbeddingWriter(BasePredictionWriter):
    """Writes `embeddings[_rank<r>].safetensors` with `image_embeddings` and `text_embeddings` (N, D), `index` (N,).

    Args:
        folder: Where to write; default: the trainer's root folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        interval: Literal["epoch"] = "epoch"
        super().__init__(write_interval=interval)
        self.folder = folder

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write this rank's embeddings."""
        names = ("image_embeddings", "text_embeddings", "index")
        tensors = {name: torch.cat([batch[name].cpu() for batch in predictions]).contiguous() for name in names}
        suffix = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
        folder = self.folder or Path(trainer.default_root_dir)
        write_atomically(folder / f"embeddings{suffix}.safetensors", save(tensors))
