"""Every member of the family with every option, next to its formula; and batches to try them on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from medzeroseg import losses
from tests.losses import oracle


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[..., losses.ContrastiveLoss]
    weigh: tuple[oracle.Weigh, oracle.Weigh]
    positive_weight: float = 1.0
    keep: Callable[[int], int] | None = None
    scale: float | None = None  # where the loss does not use the scale it is given

    def expected(self, images: Tensor, texts: Tensor, scale: Tensor | float, ids: Tensor | None = None):
        scale = scale if self.scale is None else self.scale + 0.0 * scale
        listed = None if ids is None else ids.tolist()
        return oracle.loss(images, texts, scale, *self.weigh, self.positive_weight, listed, self.keep)


def _cehnc(name: str, first: float, second: float, squared: bool = True, keep=None, **options) -> Case:
    make = partial(
        losses.CEHNCLoss, first, second, distance="squared_l2" if squared else "l2", lambda_range=(0.01, 50.0)
    )
    return Case(name, partial(make, **options), (oracle.near(first, squared), oracle.near(second, squared)), keep=keep)


# lambdas are float32 buffers: these values are exact in it.
CASES = [
    Case("info_nce", losses.InfoNCELoss, (oracle.uniform, oracle.uniform)),
    Case("dcl", losses.DCLLoss, (oracle.uniform, oracle.uniform), positive_weight=0.0),
    Case(
        "hn_nce",
        partial(losses.HNNCELoss, 0.3, 0.6, alpha=0.7),
        (oracle.hardness(0.3), oracle.hardness(0.6)),
        0.7,
    ),
    Case(
        "dhn_nce",
        partial(losses.DHNNCELoss, temperature=None, beta_image_to_text=0.15, beta_text_to_image=0.4),
        (oracle.hardness(0.15), oracle.hardness(0.4)),
        0.0,
    ),
    Case("dhn_nce_paper", losses.DHNNCELoss, (oracle.hardness(0.15), oracle.hardness(0.15)), 0.0, scale=1 / 0.6),
    _cehnc("cehnc", 1.0, 1.0),
    _cehnc("cehnc_adaptive", 0.75, 2.0, lambda_update="adaptive", target_effective_fraction=0.4),
    _cehnc("cehnc_l2", 0.75, 1.875, squared=False),
    _cehnc("cehnc_fraction", 0.75, 1.875, keep=oracle.hardest_fraction(0.3), hard_fraction=0.3),
    _cehnc("cehnc_count", 1.0, 1.0, keep=lambda k: min(3, k), hard_count=3),
    _cehnc("cehnc_l2_count", 1.5, 0.5, squared=False, keep=lambda k: min(2, k), hard_count=2),
]
NAMES = [case.name for case in CASES]


def pairs(size: int, width: int = 6, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Unit vectors whose partners resemble each other."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, width, generator=generator, dtype=torch.float64)
    texts = images + 0.8 * torch.randn(size, width, generator=generator, dtype=torch.float64)
    return F.normalize(images, dim=1).to(dtype), F.normalize(texts, dim=1).to(dtype)


def gradients(
    loss: Callable[..., Tensor], images: Tensor, texts: Tensor, scale: float, *rest: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Value, and gradients by images, texts and logit scale, through the normalisation that precedes a loss.

    Without it the gradients of ||z - s||^2 and of 2 - 2 z.s would differ, by a multiple of z.
    """
    images, texts = images.clone().requires_grad_(), texts.clone().requires_grad_()
    logit_scale = torch.tensor(scale, dtype=images.dtype, requires_grad=True)
    value = loss(F.normalize(images, dim=1), F.normalize(texts, dim=1), logit_scale, *rest)
    value = value[0] if isinstance(value, tuple) else value
    by_images, by_texts, by_scale = torch.autograd.grad(value, (images, texts, logit_scale), allow_unused=True)
    by_scale = torch.zeros_like(logit_scale) if by_scale is None else by_scale
    return value.detach(), by_images, by_texts, by_scale
