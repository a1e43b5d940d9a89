"""Contrastive fine-tuning of an image-text model with a loss of the CEHNC family."""

from typing import Any, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from medzeroseg.callbacks.retrieval import RetrievalEvaluator
from medzeroseg.errors import ConfigurationError
from medzeroseg.losses import ContrastiveLoss
from medzeroseg.models import ImageTextModel
from medzeroseg.schedules import LRSchedule
from medzeroseg.tasks.base import BaseTask

Batch = dict[str, Any]


class ContrastiveTask(BaseTask):
    """Trains an image-text model on pairs and ranks the pairs of the other splits.

    Negatives are those of the global batch: the loss gathers over the ranks by itself. Gradient accumulation
    (`trainer.accumulate_grad_batches`) does not enlarge them: each micro-batch sees only its own negatives.

    Args:
        model: The image-text model; it brings its own preprocessing and tokenizer.
        loss: A loss of `medzeroseg.losses`.
        evaluator: Ranks pairs in validation and test.
        optimizer: Makes the optimizer from parameter groups.
        lr_schedule: Makes the learning-rate schedule; None: constant.

    Batches hold `image` (B, 3, H, W), `tokens` (B, L), `text_id` (B,), `index` (B,), `text` and `case_id` (lists).
    """

    def __init__(
        self,
        model: ImageTextModel,
        loss: ContrastiveLoss,
        evaluator: RetrievalEvaluator | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=1e-4),
        lr_schedule: LRSchedule | None = None,
    ) -> None:
        super().__init__(optimizer, lr_schedule)
        self.model = model
        self.loss = loss
        self.evaluator = evaluator or RetrievalEvaluator()

    def configure_callbacks(self) -> list[RetrievalEvaluator]:
        """Let Lightning call the evaluator that the task holds."""
        return [] if self.evaluator in cast(Any, self.trainer).callbacks else [self.evaluator]

    def setup(self, stage: str) -> None:
        """Hand the model's own preprocessing and tokenizer to the data module.

        Raises:
            ConfigurationError: The data module does not give image-text pairs.
        """
        data = cast(Any, self.trainer).datamodule
        if data is None:
            return  # bare dataloaders: their maker has preprocessed
        if not hasattr(data, "attach_model"):
            raise ConfigurationError(
                f"data: {type(data).__name__} gives no image-text pairs, which {type(self).__name__} needs. "
                "Use a data module derived from data_modules.ImageTextDataModule."
            )
        data.attach_model(
            train_transform=self.model.image_transform(train=True),
            eval_transform=self.model.image_transform(train=False),
            tokenizer=self.model.tokenizer,
        )

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed pairs: (B, 3, H, W), (B, L) -> normalised (B, D), (B, D) and the logit scale."""
        return cast(tuple[Tensor, Tensor, Tensor], self.model(images, tokens))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One contrastive step."""
        images, texts, logit_scale = self(batch["image"], batch["tokens"])
        loss: Tensor = self.loss(images, texts, logit_scale, text_ids=batch["text_id"])
        self.require_finite(loss, batch, batch_idx)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(images))
        self.log("train/logit_scale", logit_scale.detach())
        self.log_dict({f"train/{name}": value for name, value in self.loss.diagnostics().items()})
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Embed a batch for the evaluator and log its loss."""
        images, texts, logit_scale = self(batch["image"], batch["tokens"])
        if len(images) > 1:  # a last batch of one pair has no negatives
            loss = self.loss(images, texts, logit_scale, text_ids=batch["text_id"])
            self.log("val/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(images))
        return {"image_embeddings": images, "text_embeddings": texts}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Embed a batch for the evaluator."""
        images, texts, _ = self(batch["image"], batch["tokens"])
        return {"image_embeddings": images, "text_embeddings": texts}

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Embed a batch; `callbacks.EmbeddingWriter` saves what this returns."""
        return {**self.test_step(batch, batch_idx), "index": batch["index"], "case_id": batch["case_id"]}
