"""What every task on image-text pairs shares: embedding, evaluation, and what of the towers is trained."""

from typing import Any, Self, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from medzeroseg import distributed
from medzeroseg.callbacks.retrieval import RetrievalEvaluator
from medzeroseg.losses import ContrastiveLoss
from medzeroseg.models import ImageTextModel
from medzeroseg.parameter_groups import Group
from medzeroseg.schedules import LRSchedule
from medzeroseg.tasks.base import BaseTask
from medzeroseg.tasks.performance import Part, Performance
from medzeroseg.tasks.tower_tuning import TowerTuning

Batch = dict[str, Any]


class PairTask(BaseTask):
    """Embeds pairs and ranks those of validation and test; a subclass says how it is trained.

    The loss of validation is that of each batch of `eval_batch_size` pairs by itself, whatever the number of ranks.

    Args:
        model: The image-text model; it brings its own preprocessing and tokenizer.
        loss: A loss of `medzeroseg.losses`.
        evaluator: Ranks pairs in validation and test.
        optimizer: Makes the optimizer from parameter groups.
        lr_schedule: Makes the learning-rate schedule; None: constant.
        towers: What of the towers is trained and how fast; None: all of it, alike.
        performance: How the network is computed; None: as torch does it by default.

    Raises:
        ValueError: `towers` does not fit the model.
    """

    def __init__(
        self,
        model: ImageTextModel,
        loss: ContrastiveLoss,
        evaluator: RetrievalEvaluator | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=1e-4),
        lr_schedule: LRSchedule | None = None,
        towers: TowerTuning | None = None,
        performance: Performance | None = None,
    ) -> None:
        super().__init__(optimizer, lr_schedule, performance)
        self.model = model
        self.loss = loss
        self.evaluator = evaluator or RetrievalEvaluator()
        self.towers = towers or TowerTuning()
        self._frozen = self.towers.apply(model)
        for module in self._frozen:
            module.eval()

    def train(self, mode: bool = True) -> Self:
        """As any module; what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def parameter_groups(self) -> list[Group]:
        """What the optimizer trains, in groups by weight decay and, with a `layer_decay`, by layer."""
        return self.towers.groups(self.model, self.named_parameters())

    def parts_to_compile(self) -> list[Part]:
        """The stacks of both towers, or their blocks: where activations are computed again it is block by block."""
        parts = []
        for name, tower in self.model.towers.items():
            by_block = self.performance.compile_unit == "block" or name in self.towers.gradient_checkpointing
            parts += [Part(x, tower.any_shape) for x in (tower.blocks() if by_block else tower.stacks())]
        return parts

    def configure_callbacks(self) -> list[RetrievalEvaluator]:
        """Let Lightning call the evaluator that the task holds."""
        return [] if self.evaluator in cast(Any, self.trainer).callbacks else [self.evaluator]

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed pairs: (B, 3, H, W), (B, L) -> normalised (B, D), (B, D) and the logit scale."""
        return cast(tuple[Tensor, Tensor, Tensor], self.model(images, tokens))

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Embed a batch for the evaluator and log its loss."""
        images, texts, logit_scale = self(batch["image"], batch["tokens"])
        loss, pairs = logit_scale.new_zeros(()), 0
        if len(images) > 1:  # a last batch of one pair has no negatives
            with distributed.alone():  # ranks may have different numbers of batches
                loss, pairs = self.loss(images, texts, logit_scale, text_ids=batch["text_id"]), len(images)
            self.require_finite(loss, batch, batch_idx)  # broken weights must not become the last checkpoint
        # also with a weight of 0: the ranks exchange it in the end
        self.log("val/loss", loss, prog_bar=True, sync_dist=True, batch_size=pairs)
        return {"image_embeddings": images, "text_embeddings": texts}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Embed a batch for the evaluator."""
        images, texts, _ = self(batch["image"], batch["tokens"])
        return {"image_embeddings": images, "text_embeddings": texts}

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Embed a batch; `callbacks.EmbeddingWriter` saves what this returns."""
        return {**self.test_step(batch, batch_idx), "index": batch["index"], "case_id": batch["case_id"]}
