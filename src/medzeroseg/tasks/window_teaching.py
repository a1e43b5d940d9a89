"""Teaching patch features from windows of pictures and the names of what each shows and lacks."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medzeroseg.losses import PresenceLoss
from medzeroseg.models import ImageTextModel
from medzeroseg.prompts import PromptLibrary
from medzeroseg.tasks.window_names import name_targets, unasked_names, unasked_targets, word_names


def epochs_of_pairs(epochs: int, window_share: float) -> int:
    """How many of a run's epochs train pairs; the rest, at its end, are for the windows alone. At least 1."""
    return max(1, round(epochs * (1 - window_share)))


def loss_of_windows(
    model: ImageTextModel,
    loss: PresenceLoss,
    batch: Mapping[str, Any],
    library: PromptLibrary,
    step: int,
    unasked: int = 0,
    train_texts: bool = True,
) -> Tensor:
    """Ask each window of a batch for names, and compare the answers with what is known.

    Args:
        model: Gives patch features and embeds the names.
        loss: Compares.
        batch: `window` (W, 3, S, S), `window_kind`, `window_shows` and `window_lacks` (lists).
        library: Templates and synonyms in which names are put.
        step: Chooses the wording, and the names that are asked for though nobody said anything of them.
        unasked: How many of those for each kind of window (`window_names.unasked_names`).
        train_texts: Whether the names' embeddings get gradients.

    Returns:
        The loss, ().
    """
    patches = model.encode_patches(batch["window"])
    names, targets = name_targets(batch["window_kind"], batch["window_shows"], batch["window_lacks"])
    if unasked:
        more = unasked_names(names, library, step, unasked)
        targets = torch.cat([targets, unasked_targets(batch["window_kind"], more)], dim=1)
        names = names + more
    texts = word_names(names, library, step)
    with torch.set_grad_enabled(train_texts):
        phrases = model.encode_text(model.tokenizer(texts).to(patches.device))
    value: Tensor = loss(patches, phrases, targets.to(patches.device))
    return value
