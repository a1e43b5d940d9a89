"""The loss against MONAI's, against a loop over voxels, and what unknown voxels do: nothing."""

import math

import pytest
import torch
from monai.losses import DiceCELoss
from torch import Tensor

from medzeroseg.losses.dice_cross_entropy import UNKNOWN, DiceCrossEntropyLoss

CLASSES = 4


def _batch(seed: int = 0, unknown: float = 0.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, CLASSES, 6, 5, generator=generator, dtype=torch.float32) * 2
    target = torch.randint(0, CLASSES, (3, 6, 5), generator=generator)
    target[torch.rand(target.shape, generator=generator) < unknown] = UNKNOWN
    return logits, target


@pytest.mark.parametrize("batch_dice", [True, False])
@pytest.mark.parametrize("background", [True, False])
def test_with_nothing_unknown_it_is_monais(batch_dice: bool, background: bool) -> None:
    logits, target = _batch()
    monai = DiceCELoss(include_background=background, to_onehot_y=True, softmax=True, batch=batch_dice)
    ours = DiceCrossEntropyLoss(include_background=background, batch_dice=batch_dice)
    torch.testing.assert_close(ours(logits, target), monai(logits, target.unsqueeze(1)))


def _slow(logits: Tensor, target: Tensor, batch_dice: bool, smooth: float = 1e-5) -> float:
    """Dice without background, plus cross-entropy, voxel by voxel."""
    groups = [list(range(len(logits)))] if batch_dice else [[n] for n in range(len(logits))]
    entropy, known, dice = 0.0, 0, []
    for group in groups:
        overlap, total = [0.0] * CLASSES, [0.0] * CLASSES
        for n in group:
            for row in range(target.shape[1]):
                for column in range(target.shape[2]):
                    true = int(target[n, row, column])
                    if true == UNKNOWN:
                        continue
                    powers = [math.exp(float(value)) for value in logits[n, :, row, column]]
                    shares = [power / sum(powers) for power in powers]
                    entropy -= math.log(shares[true])
                    known += 1
                    for k in range(CLASSES):
                        overlap[k] += shares[k] * (k == true)
                        total[k] += shares[k] + (k == true)
        dice += [1 - (2 * overlap[k] + smooth) / (total[k] + smooth) for k in range(1, CLASSES)]
    return entropy / known + sum(dice) / len(dice)


@pytest.mark.parametrize("batch_dice", [True, False])
def test_unknown_voxels_are_left_out_of_both_parts(batch_dice: bool) -> None:
    logits, target = _batch(1, unknown=0.4)
    loss = DiceCrossEntropyLoss(batch_dice=batch_dice)(logits, target)
    assert float(loss) == pytest.approx(_slow(logits, target, batch_dice), rel=1e-5)


def test_unknown_voxels_get_no_gradient_and_known_ones_do() -> None:
    logits, target = _batch(2, unknown=0.5)
    logits.requires_grad_()
    DiceCrossEntropyLoss()(logits, target).backward()
    assert logits.grad is not None
    moved = logits.grad.abs().sum(dim=1) > 0
    assert torch.equal(moved, target != UNKNOWN)


def test_a_batch_without_a_known_voxel_teaches_nothing_and_breaks_nothing() -> None:
    logits, target = _batch()
    logits.requires_grad_()
    loss = DiceCrossEntropyLoss()(logits, torch.full_like(target, UNKNOWN))
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_half_precision_logits_give_the_float32_loss() -> None:
    logits, target = _batch(3)
    half = logits.bfloat16()
    loss = DiceCrossEntropyLoss()(half, target)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, DiceCrossEntropyLoss()(half.float(), target))


@pytest.mark.parametrize(
    ("name", "value"), [("dice_weight", -1.0), ("cross_entropy_weight", float("nan")), ("smooth", 0.0)]
)
def test_bad_arguments_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        DiceCrossEntropyLoss(**{name: value})
