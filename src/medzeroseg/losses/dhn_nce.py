"""DHN-NCE."""

import math

from torch import Tensor

from medzeroseg.losses.base import DuplicateTexts, TileSize
from medzeroseg.losses.functional import Denominator
from medzeroseg.losses.hn_nce import HNNCELoss


class DHNNCELoss(HNNCELoss):
    """Decoupled hard-negative noise contrastive estimation (Koleilat et al., MICCAI 2024, arXiv 2403.20253).

    HN-NCE without the positive in the denominator (``alpha = 0``). This is the formula of the paper; the code
    published with it computes something else. The paper sums over the batch, we average as everywhere here.

    Args:
        temperature: the paper fixes tau = 0.6 whatever the model's logit scale, and so does the default: the
            given ``logit_scale`` then has no influence and a zero gradient (not a missing one, which DDP
            would refuse). None uses the given ``logit_scale``, as the other losses do.
        beta_image_to_text: hardness for image anchors, >= 0; 0.15 in the paper.
        beta_text_to_image: hardness for text anchors, >= 0; 0.15 in the paper.
        detach_weights: see :class:`HNNCELoss`.
        duplicate_texts: see :class:`ContrastiveLoss`.
        tile_size: see :class:`ContrastiveLoss`.
    """

    def __init__(
        self,
        temperature: float | None = 0.6,
        beta_image_to_text: float = 0.15,
        beta_text_to_image: float = 0.15,
        detach_weights: bool = False,
        duplicate_texts: DuplicateTexts = "keep",
        tile_size: TileSize = "auto",
    ) -> None:
        super().__init__(beta_image_to_text, beta_text_to_image, 0.0, detach_weights, duplicate_texts, tile_size)
        if temperature is not None and not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature must be a positive number or null, not {temperature}")
        self.temperature = temperature

    def denominators(self, logit_scale: Tensor) -> tuple[Denominator, Denominator]:
        """Hardness weights, no positive, at the fixed or the given temperature."""
        if self.temperature is not None:
            logit_scale = 0.0 * logit_scale + 1.0 / self.temperature
        return super().denominators(logit_scale)

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return f"temperature={self.temperature}, {super().extra_repr()}"
