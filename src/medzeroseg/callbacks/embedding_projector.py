"""Test embeddings for TensorBoard's projector."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from medzeroseg.dashboard import tensorboards

_CHARACTERS = 80


class EmbeddingProjector(Callback):
    """After a test, hands embeddings of images and of their texts to TensorBoard's projector.

    Both lie in one space: a pair that the model knows lies close together. Each point tells whether it is an image or a
    text, its case, and the start of its caption. The first pairs of rank 0 are shown.

    Args:
        pairs: The most pairs.

    Raises:
        ValueError: `pairs` is below 1.
    """

    def __init__(self, pairs: int = 500) -> None:
        if pairs < 1:
            raise ValueError(f"pairs must be at least 1, got {pairs}")
        self.pairs = pairs
        self._images: list[Tensor] = []
        self._texts: list[Tensor] = []
        self._names: list[list[str]] = []

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier test."""
        self._images, self._texts, self._names = [], [], []

    @rank_zero_only
    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's STEP_OUTPUT
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the pairs that there is room for."""
        room = self.pairs - len(self._names)
        if room <= 0:
            return
        self._images.append(outputs["image_embeddings"][:room].float().cpu())
        self._texts.append(outputs["text_embeddings"][:room].float().cpu())
        self._names += [
            [case_id, _one_line(text)] for case_id, text in zip(batch["case_id"][:room], batch["text"], strict=False)
        ]

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the points."""
        if not self._names:
            return
        points = torch.cat([*self._images, *self._texts])
        labels = [[kind, *name] for kind in ("image", "text") for name in self._names]
        for writer in tensorboards(trainer):
            writer.add_embedding(
                points,
                metadata=labels,
                metadata_header=["kind", "case", "caption"],
                global_step=trainer.global_step,
                tag="test",
            )


def _one_line(text: str) -> str:
    words = " ".join(text.split())  # a tab would begin another column
    return words if len(words) <= _CHARACTERS else words[: _CHARACTERS - 1] + "…"
