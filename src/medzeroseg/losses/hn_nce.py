"""HN-NCE."""

import math

from torch import Tensor

from medzeroseg.losses.base import ContrastiveLoss, DuplicateTexts, TileSize
from medzeroseg.losses.functional import Denominator


class HNNCELoss(ContrastiveLoss):
    """Hard-negative noise contrastive estimation (Radenovic et al., CVPR 2023, arXiv 2301.02280).

    Denominator of an anchor: ``alpha`` x its positive + sum of w_nm e^{g s_nm}, with
    ``w_nm = (M - 1) e^{beta g s_nm} / sum_{k != n} e^{beta g s_nk}``: weights of mean 1 that grow with
    hardness. Where duplicates are ignored, M - 1 is the number of negatives the anchor has left [O].
    With ``alpha = 1`` and ``beta = 0`` it is InfoNCE.

    Args:
        beta_image_to_text: hardness for image anchors, >= 0. 0.25 is a common setting; the paper searches it.
        beta_text_to_image: hardness for text anchors, >= 0.
        alpha: weight of the positive in the denominator, >= 0.
        detach_weights: take w as constants in the gradient. False differentiates the formula as it is written
            (and as finite differences see it); the value is the same.
        duplicate_texts: see :class:`ContrastiveLoss`.
        tile_size: see :class:`ContrastiveLoss`.
    """

    def __init__(
        self,
        beta_image_to_text: float = 0.25,
        beta_text_to_image: float = 0.25,
        alpha: float = 1.0,
        detach_weights: bool = False,
        duplicate_texts: DuplicateTexts = "keep",
        tile_size: TileSize = "auto",
    ) -> None:
        super().__init__(duplicate_texts, tile_size)
        for name, value in (
            ("beta_image_to_text", beta_image_to_text),
            ("beta_text_to_image", beta_text_to_image),
            ("alpha", alpha),
        ):
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"{name} must be a finite number >= 0, not {value}")
        self.beta_image_to_text = beta_image_to_text
        self.beta_text_to_image = beta_text_to_image
        self.alpha = alpha
        self.detach_weights = detach_weights

    def denominators(self, logit_scale: Tensor) -> tuple[Denominator, Denominator]:
        """Hardness weights with the directions' beta."""
        return (
            self._denominator(logit_scale, self.beta_image_to_text),
            self._denominator(logit_scale, self.beta_text_to_image),
        )

    def extra_repr(self) -> str:
        """The constructor's arguments."""
        return (
            f"beta_image_to_text={self.beta_image_to_text}, beta_text_to_image={self.beta_text_to_image}, "
            f"alpha={self.alpha}, detach_weights={self.detach_weights}, {super().extra_repr()}"
        )

    def _denominator(self, logit_scale: Tensor, beta: float) -> Denominator:
        return Denominator(
            scale=logit_scale,
            slope=(1.0 + beta) * logit_scale,
            positive_log_weight=math.log(self.alpha) if self.alpha > 0 else None,
            hardness_slope=beta * logit_scale if beta > 0 else None,  # beta = 0: all weights are 1
            detach_weights=self.detach_weights,
        )
