"""Evaluator of cross-modal retrieval: an nn.Module that the task holds, and a callback that Lightning calls."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from medzeroseg.metrics.retrieval import DIRECTIONS, CrossModalRetrieval, recall_at

_SHORT = {"image_to_text": "i2t", "text_to_image": "t2i"}


class RetrievalEvaluator(nn.Module, Callback):
    """Ranks the pairs of each validation and test epoch and logs top-k recall, in percent.

    It is a submodule of the task, so that Lightning moves its metric, and a callback of it, so that it sees each
    batch. The metric synchronises over the ranks when it computes. Logged keys: `<split>/i2t_top1`
    (full gallery), `<split>/i2t_top1_of50` (small galleries), the same for t2i, and `<split>/top1_mean`,
    the mean of both directions in the full gallery: the figure that chooses the best checkpoint.

    Args:
        top_k: The k of top-k.
        small_gallery: Size of the small galleries (the peers' protocol: 50).
        seed: Seed of the small galleries.
    """

    def __init__(self, top_k: tuple[int, ...] = (1, 2, 5, 10), small_gallery: int = 50, seed: int = 0) -> None:
        super().__init__()
        if 1 not in top_k:
            raise ValueError(f"top_k must contain 1, by which checkpoints are chosen; got {top_k}")
        self.top_k = tuple(top_k)
        self.metric = CrossModalRetrieval(small_gallery, seed)
        self.ranks: dict[str, Tensor] = {}

    @property
    def small_gallery(self) -> int:
        """Size of the small galleries."""
        return self.metric.small_gallery

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last epoch's pairs."""
        self.metric.reset()

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's STEP_OUTPUT
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the step's embeddings."""
        self.metric.update(outputs["image_embeddings"], outputs["text_embeddings"], batch["text_id"], batch["index"])

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rank and log."""
        self._finish(pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Rank and log; the ranks stay at hand for the table."""
        self._finish(pl_module, "test")

    def _finish(self, pl_module: LightningModule, split: str) -> None:
        # torchmetrics makes scalars of vectors with one element
        self.ranks = {name: value.reshape(-1) for name, value in self.metric.compute().items()}
        values = summarise_ranks(self.ranks, self.top_k, self.small_gallery)
        # Every rank holds the same synchronised values: no second reduction.
        pl_module.log_dict({f"{split}/{key}": value for key, value in values.items()}, rank_zero_only=False)
        pl_module.log(f"{split}/top1_mean", (values["i2t_top1"] + values["t2i_top1"]) / 2, prog_bar=True)
        self.metric.reset()


def summarise_ranks(ranks: dict[str, Tensor], top_k: tuple[int, ...], small_gallery: int) -> dict[str, Tensor]:
    """Top-k recall in percent, by direction and gallery.

    Args:
        ranks: What `CrossModalRetrieval.compute` returns.
        top_k: The k of top-k.
        small_gallery: Size of the small galleries, for the keys' names.

    Returns:
        `i2t_top1`, ..., `t2i_top1_of50`, ...: scalars in [0, 100].
    """
    values = {}
    for direction in DIRECTIONS:
        full, small = ranks[f"full/{direction}"], ranks[f"small/{direction}"]
        ranked = small[small > 0]
        for k in top_k:
            values[f"{_SHORT[direction]}_top{k}"] = 100 * recall_at(full, k)
            values[f"{_SHORT[direction]}_top{k}_of{small_gallery}"] = 100 * recall_at(ranked, k)
    return values
