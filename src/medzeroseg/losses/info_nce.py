"""InfoNCE."""

from torch import Tensor

from medzeroseg.losses.base import ContrastiveLoss
from medzeroseg.losses.functional import Denominator


class InfoNCELoss(ContrastiveLoss):
    """InfoNCE as CLIP uses it, in both directions (van den Oord et al. 2018; Radford et al. 2021).

    Denominator of an anchor: its positive and all its negatives. Equals twice open_clip's ``ClipLoss``.

    >>> import torch
    >>> loss = InfoNCELoss()
    >>> axes = torch.eye(2)
    >>> round(loss(axes, axes, logit_scale=1.0).item(), 4)  # 2 log(1 + exp(-1))
    0.6265
    """

    def denominators(self, logit_scale: Tensor) -> tuple[Denominator, Denominator]:
        """Weight 1 for everything."""
        uniform = Denominator(scale=logit_scale, slope=logit_scale)
        return uniform, uniform
