"""Dice + cross-entropy for label maps in which some voxels are unknown."""

import torch
from torch import Tensor, nn

UNKNOWN = 255
"""Label id of voxels that nobody has outlined."""


class DiceCrossEntropyLoss(nn.Module):
    """Soft Dice loss plus cross-entropy; unknown voxels count in neither.

    With nothing unknown it equals MONAI's `DiceCELoss(softmax=True, to_onehot_y=True)`, which cannot leave voxels out
    of its cross-entropy. A batch without a known voxel has the loss 0.

    Args:
        dice_weight: Weight of the Dice part; 0 or more.
        cross_entropy_weight: Weight of the cross-entropy; 0 or more.
        include_background: Whether the background has a Dice term.
        batch_dice: Sum overlaps over the whole batch before the ratio, as nnU-Net does for 2-D slices: a structure that
            is absent from a slice has no ratio there. False: one ratio a slice.
        smooth: Added to both sides of the ratio; over 0.
        ignore_index: The label that is unknown.

    Raises:
        ValueError: A number is out of range.

    Source: Milletari et al., "V-Net", 3DV 2016, with the plain sum in the denominator; Isensee et al., Nature Methods
    2021 (the sum with cross-entropy).
    """

    def __init__(
        self,
        dice_weight: float = 1.0,
        cross_entropy_weight: float = 1.0,
        include_background: bool = False,
        batch_dice: bool = True,
        smooth: float = 1e-5,
        ignore_index: int = UNKNOWN,
    ) -> None:
        super().__init__()
        for name, value in (("dice_weight", dice_weight), ("cross_entropy_weight", cross_entropy_weight)):
            if not value >= 0:
                raise ValueError(f"{name} must be 0 or more, got {value}")
        if not smooth > 0:
            raise ValueError(f"smooth must be over 0, got {smooth}")
        self.dice_weight, self.cross_entropy_weight = dice_weight, cross_entropy_weight
        self.include_background, self.batch_dice = include_background, batch_dice
        self.smooth, self.ignore_index = smooth, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            logits: (B, K, ...) float, K classes with the background first. Computed in float32 under autocast, too.
            target: (B, ...) int64 classes 0..K-1, or `ignore_index`.

        Returns:
            A scalar, 0 or more.
        """
        log_probabilities = logits.float().log_softmax(dim=1)
        known = (target != self.ignore_index).unsqueeze(1)
        true = target.where(target != self.ignore_index, target.new_zeros(())).unsqueeze(1)
        cross_entropy = -(log_probabilities.gather(1, true) * known).sum() / known.sum().clamp(min=1)
        weighted = self.cross_entropy_weight * cross_entropy + self.dice_weight * self._dice(
            log_probabilities.exp() * known, torch.zeros_like(log_probabilities).scatter_(1, true, 1.0) * known
        )
        return weighted

    def _dice(self, predicted: Tensor, true: Tensor) -> Tensor:
        if not self.include_background:
            predicted, true = predicted[:, 1:], true[:, 1:]
        axes = [0, *range(2, true.ndim)] if self.batch_dice else list(range(2, true.ndim))
        overlap = (predicted * true).sum(dim=axes)
        total = predicted.sum(dim=axes) + true.sum(dim=axes)
        return (1 - (2 * overlap + self.smooth) / (total + self.smooth)).mean()
