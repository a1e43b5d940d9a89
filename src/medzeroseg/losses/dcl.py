"""DCL."""

from torch import Tensor

from medzeroseg.losses.base import ContrastiveLoss
from medzeroseg.losses.functional import Denominator


class DCLLoss(ContrastiveLoss):
    """Decoupled contrastive learning (Yeh et al., ECCV 2022), in both directions.

    Denominator of an anchor: its negatives only, which removes the factor by which a well-placed positive
    shrinks the gradient in InfoNCE. The value may be negative.
    """

    def denominators(self, logit_scale: Tensor) -> tuple[Denominator, Denominator]:
        """Weight 1 for the negatives, no positive."""
        decoupled = Denominator(scale=logit_scale, slope=logit_scale, positive_log_weight=None)
        return decoupled, decoupled
