"""The loss of windows by itself."""

import pytest
import torch

from medzeroseg.losses import PresenceLoss
from medzeroseg.models import ImageTextModel, PatchTower
from medzeroseg.prompts import PromptLibrary
from medzeroseg.tasks.window_teaching import epochs_of_pairs, loss_of_windows


@pytest.mark.parametrize(
    ("epochs", "share", "expected"), [(10, 0.0, 10), (10, 0.5, 5), (3, 0.34, 2), (2, 0.9, 1), (1, 0.5, 1)]
)
def test_the_last_epochs_are_for_windows_and_never_the_first(epochs: int, share: float, expected: int) -> None:
    assert epochs_of_pairs(epochs, share) == expected


def test_names_train_the_text_tower_only_where_they_are_to() -> None:
    torch.manual_seed(0)
    model = ImageTextModel("small", patch_tower=PatchTower)
    batch = {
        "window": torch.randn(2, 3, 32, 32),
        "window_kind": ["abdominal CT", "abdominal CT"],
        "window_shows": [("liver",), ("spleen",)],
        "window_lacks": [("spleen",), ("liver",)],
    }
    losses = []
    for train_texts in (True, False):
        model.zero_grad()
        loss = loss_of_windows(model, PresenceLoss(), batch, PromptLibrary.load(), 3, 2, train_texts)
        loss.backward()
        losses.append(loss.detach())
        assert (model.clip.text.token_embedding.weight.grad is not None) == train_texts
        assert all(p.grad is not None for p in model.patch_tower.parameters())
        assert all(p.grad is None for p in model.clip.visual.parameters())
    torch.testing.assert_close(losses[0], losses[1])
    other = loss_of_windows(model, PresenceLoss(), batch, PromptLibrary.load(), 3, 0, False)
    assert not torch.equal(other.detach(), losses[0])  # the names that nobody spoke of were asked for
