"""Contrastive fine-tuning of an image-text model with a loss of the CEHNC family."""

from typing import Any, cast

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from medzeroseg.callbacks.retrieval import RetrievalEvaluator
from medzeroseg.losses import ContrastiveLoss, PresenceLoss
from medzeroseg.models import ImageTextModel
from medzeroseg.prompts import DEFAULT_PROMPTS, PromptLibrary
from medzeroseg.schedules import LRSchedule
from medzeroseg.tasks.grad_cache import embed_in_parts
from medzeroseg.tasks.pair_task import Batch, PairTask
from medzeroseg.tasks.pairs import attach_model
from medzeroseg.tasks.performance import Performance
from medzeroseg.tasks.tower_tuning import TowerTuning
from medzeroseg.tasks.window_teaching import epochs_of_pairs, loss_of_windows


class ContrastiveTask(PairTask):
    """Trains an image-text model on pairs and ranks the pairs of the other splits.

    Negatives are those of the global batch: the loss gathers over the ranks by itself. Gradient accumulation
    (`trainer.accumulate_grad_batches`) does not enlarge them: each of its batches sees only its own negatives.
    `micro_batch_size` does: the batch is embedded in parts (`grad_cache.embed_in_parts`).

    Args:
        model: The image-text model; it brings its own preprocessing and tokenizer.
        loss: A loss of `medzeroseg.losses`.
        evaluator: Ranks pairs in validation and test.
        optimizer: Makes the optimizer from parameter groups.
        lr_schedule: Makes the learning-rate schedule; None: constant.
        towers: What of the towers is trained and how fast; None: all of it, alike.
        performance: How the network is computed; None: as torch does it by default.
        micro_batch_size: Pairs of a training batch embedded at a time; None: all at once.
        window_loss: Teaches the patch features where named structures are, on the windows that the data module takes
            (`windows`), beside `loss`; None: nothing does.
        window_share: Share of the epochs, in [0, 1), that is for the windows alone, at the end: places take more steps
            to learn than pairs do, and these steps are cheap. The first epoch is for pairs in any case. The texts'
            embeddings stay as they are then, and with a `patch_tower` so does retrieval.
        unasked_names: Names that each kind of window is asked for beside its own in each step, and lacks
            (`window_names.unasked_names`); 0 for none.
        prompts: File of the templates and synonyms in which windows' names are put, as prompts will be.

    Raises:
        ValueError: `micro_batch_size` is below 1, `unasked_names` below 0, there is a `window_share` without a
            `window_loss`, or `towers` does not fit the model.

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
        towers: TowerTuning | None = None,
        performance: Performance | None = None,
        micro_batch_size: int | None = None,
        window_loss: PresenceLoss | None = None,
        window_share: float = 0.0,
        unasked_names: int = 0,
        prompts: str = str(DEFAULT_PROMPTS),
    ) -> None:
        super().__init__(model, loss, evaluator, optimizer, lr_schedule, towers, performance)
        if micro_batch_size is not None and micro_batch_size < 1:
            raise ValueError(f"micro_batch_size must be at least 1 or null, got {micro_batch_size}")
        if not 0 <= window_share < 1 or (window_share and window_loss is None):
            raise ValueError(f"window_share must be in [0, 1), and 0 without a window_loss, got {window_share}")
        if unasked_names < 0:
            raise ValueError(f"unasked_names must be 0 or more, got {unasked_names}")
        self.micro_batch_size = micro_batch_size
        self.unasked_names = unasked_names
        self.window_loss = window_loss
        self.window_share = window_share
        self.library = PromptLibrary.load(prompts)

    def setup(self, stage: str) -> None:
        """Hand the model's own preprocessing and tokenizer to the data module.

        Raises:
            ConfigurationError: The data module does not give image-text pairs.
        """
        attach_model(cast(Any, self.trainer).datamodule, self.model, self.window_loss, self)
        if self.window_share:
            # Window epochs leave the towers of the pairs without gradients. Lightning wraps the model after this hook,
            # and has no public way to ask DDP for it from within a task.
            getattr(self.trainer.strategy, "_ddp_kwargs", {}).setdefault("find_unused_parameters", True)

    def embed_for_training(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """As `forward`, keeping the activations of at most `micro_batch_size` pairs."""
        return embed_in_parts(self.model, images, tokens, self.micro_batch_size)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One contrastive step."""
        if self.window_loss is None:
            return self._loss_of_pairs(batch, batch_idx, None)
        pairs_are_over = self.current_epoch >= epochs_of_pairs(cast(int, self.trainer.max_epochs), self.window_share)
        of_windows = loss_of_windows(
            self.model,
            self.window_loss,
            batch,
            self.library,
            self.global_step,
            self.unasked_names,
            train_texts=not pairs_are_over,
        )
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
