"""Contrastive fine-tuning of an image-text model with a loss of the CEHNC family."""

from typing import Any, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from medzeroseg.callbacks.retrieval import RetrievalEvaluator
from medzeroseg.errors import ConfigurationError
from medzeroseg.losses import ContrastiveLoss, PresenceLoss
from medzeroseg.models import ImageTextModel
from medzeroseg.prompts import DEFAULT_PROMPTS, PromptLibrary
from medzeroseg.schedules import LRSchedule
from medzeroseg.tasks.base import BaseTask
from medzeroseg.tasks.window_names import name_targets, unasked_names, unasked_targets, word_names

Batch = dict[str, Any]


class ContrastiveTask(BaseTask):
    """Trains an image-text model on pairs and ranks the pairs of the other splits.

    Negatives are those of the global batch: the loss gathers over the ranks by itself. Gradient accumulation
    (`trainer.accumulate_grad_batches`) does not enlarge them: each of its batches sees only its own negatives.
    `micro_batch_size` does: the batch is embedded in parts whose activations are dropped and computed again in the
    backward pass, one part at a time, as GradCache does (Gao et al., RepL4NLP 2021, arXiv 2101.06983). Loss and
    gradients are those of the whole batch; memory is that of one part and of all embeddings; each part costs a second
    forward pass.

    Args:
        model: The image-text model; it brings its own preprocessing and tokenizer.
        loss: A loss of `medzeroseg.losses`.
        evaluator: Ranks pairs in validation and test.
        optimizer: Makes the optimizer from parameter groups.
        lr_schedule: Makes the learning-rate schedule; None: constant.
        micro_batch_size: Pairs of a training batch embedded at a time; None: all at once.
        window_loss: Teaches the patch features where named structures are, on the windows that the data module takes
            (`windows`), beside `loss`; None: nothing does.
        window_share: Share of the epochs, in [0, 1), that is for the windows alone, at the end: places take more steps
            to learn than pairs do, and these steps are cheap. The first epoch is for pairs in any case. The texts'
            embeddings stay as they are then, and with a `patch_tower` so does retrieval.
        unasked_names: Made-up names, and structures of other kinds of picture, that each kind of window is asked for
            beside its own in each step, and lacks (`window_names.unasked_names`); 0 for none.
        prompts: File of the templates and synonyms in which windows' names are put, as prompts will be.

    Raises:
        ValueError: `micro_batch_size` is below 1, `unasked_names` below 0, or there is a `window_share` without a
            `window_loss`.

    Batches hold `image` (B, 3, H, W), `tokens` (B, L), `text_id` (B,), `index` (B,), `text` and `case_id` (lists); and
    for the windows `window` (W, 3, S, S), `window_kind`, `window_shows` and `window_lacks` (lists).
    """

    def __init__(
        self,
        model: ImageTextModel,
        loss: ContrastiveLoss,
        evaluator: RetrievalEvaluator | None = None,
        optimizer: OptimizerCallable = lambda params: torch.optim.AdamW(params, lr=1e-4),
        lr_schedule: LRSchedule | None = None,
        micro_batch_size: int | None = None,
        window_loss: PresenceLoss | None = None,
        window_share: float = 0.0,
        unasked_names: int = 0,
        prompts: str = str(DEFAULT_PROMPTS),
    ) -> None:
        super().__init__(optimizer, lr_schedule)
        if micro_batch_size is not None and micro_batch_size < 1:
            raise ValueError(f"micro_batch_size must be at least 1 or null, got {micro_batch_size}")
        if not 0 <= window_share < 1 or (window_share and window_loss is None):
            raise ValueError(f"window_share must be in [0, 1), and 0 without a window_loss, got {window_share}")
        if unasked_names < 0:
            raise ValueError(f"unasked_names must be 0 or more, got {unasked_names}")
        self.micro_batch_size = micro_batch_size
        self.unasked_names = unasked_names
        self.model = model
        self.loss = loss
        self.window_loss = window_loss
        self.window_share = window_share
        self.library = PromptLibrary.load(prompts)
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
        windows = getattr(data, "windows", None)
        if (windows is None) != (self.window_loss is None):
            raise ConfigurationError(
                "model.init_args.window_loss and data.init_args.windows belong together: set both, or both to null"
            )
        if self.window_share:
            # Window epochs leave the towers of the pairs without gradients. Lightning wraps the model after this hook,
            # and has no public way to ask DDP for it from within a task.
            getattr(self.trainer.strategy, "_ddp_kwargs", {}).setdefault("find_unused_parameters", True)
        data.attach_model(
            train_transform=self.model.image_transform(train=True),
            eval_transform=self.model.image_transform(train=False),
            tokenizer=self.model.tokenizer,
            window_transform=None if windows is None else self.model.image_transform(size_px=windows.size_px),
        )

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed pairs: (B, 3, H, W), (B, L) -> normalised (B, D), (B, D) and the logit scale."""
        return cast(tuple[Tensor, Tensor, Tensor], self.model(images, tokens))

    def embed_for_training(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, keeping the activations of at most `micro_batch_size` pairs."""
        size = self.micro_batch_size
        if size is None or size >= len(images):
            return self.forward(images, tokens)
        # Not reentrant: the graph stays one, so that DDP sees each gradient once, when all parts have added to it.
        # The random state is restored, so that dropout is the same in both passes.
        parts = [
            checkpoint(self.model, *part, use_reentrant=False)
            for part in zip(torch.split(images, size), torch.split(tokens, size), strict=True)
        ]
        embedded_images, embedded_texts, _ = zip(*parts, strict=True)
        return torch.cat(embedded_images), torch.cat(embedded_texts), self.model.logit_scale

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One contrastive step."""
        if self.window_loss is None:
            return self._loss_of_pairs(batch, batch_idx, None)
        of_pairs = max(1, round(cast(int, self.trainer.max_epochs) * (1 - self.window_share)))
        pairs_are_over = self.current_epoch >= of_pairs
        of_windows = self._loss_of_windows(self.window_loss, batch, train_texts=not pairs_are_over)
        self.log("train/window_loss", of_windows.detach(), prog_bar=True)
        if pairs_are_over:
            self.require_finite(of_windows, batch, batch_idx)
            return of_windows
        return self._loss_of_pairs(batch, batch_idx, of_windows)

    def _loss_of_pairs(self, batch: Batch, batch_idx: int, beside: Tensor | None) -> Tensor:
        images, texts, logit_scale = self.embed_for_training(batch["image"], batch["tokens"])
        loss: Tensor = self.loss(images, texts, logit_scale, text_ids=batch["text_id"])
        if beside is not None:
            loss = loss + beside
        self.require_finite(loss, batch, batch_idx)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(images))
        self.log("train/logit_scale", logit_scale.detach())
        self.log_dict({f"train/{name}": value for name, value in self.loss.diagnostics().items()})
        return loss

    def _loss_of_windows(self, window_loss: PresenceLoss, batch: Batch, train_texts: bool) -> Tensor:
        patches = self.model.encode_patches(batch["window"])
        names, targets = name_targets(batch["window_kind"], batch["window_shows"], batch["window_lacks"])
        if self.unasked_names:
            unasked = unasked_names(names, self.library, self.global_step, self.unasked_names)
            targets = torch.cat([targets, unasked_targets(batch["window_kind"], unasked)], dim=1)
            names = names + unasked
        texts = word_names(names, self.library, self.global_step)
        with torch.set_grad_enabled(train_texts):
            phrases = self.model.encode_text(self.model.tokenizer(texts).to(patches.device))
        loss: Tensor = window_loss(patches, phrases, targets.to(patches.device))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Embed a batch for the evaluator and log its loss."""
        images, texts, logit_scale = self(batch["image"], batch["tokens"])
        if len(images) > 1:  # a last batch of one pair has no negatives
            loss = self.loss(images, texts, logit_scale, text_ids=batch["text_id"])
            self.require_finite(loss, batch, batch_idx)  # broken weights must not become the last checkpoint
            self.log("val/loss", loss, prog_bar=True, sync_dist=True, batch_size=len(images))
        return {"image_embeddings": images, "text_embeddings": texts}

    def test_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Embed a batch for the evaluator."""
        images, texts, _ = self(batch["image"], batch["tokens"])
        return {"image_embeddings": images, "text_embeddings": texts}

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Embed a batch; `callbacks.EmbeddingWriter` saves what this returns."""
        return {**self.test_step(batch, batch_idx), "index": batch["index"], "case_id": batch["case_id"]}
