"""Which of the named structures a picture shows, asked of its places. No place is ever annotated.

A structure is shown where one place at least answers its name: multiple-instance learning with text-conditioned
pooling, in the manner of GLoRIA (Huang et al., ICCV 2021), FILIP (Yao et al., ICLR 2022) and SPARC (Bica et al., ICML
2024), each pair of picture and name judged by itself as in SigLIP (Zhai et al., ICCV 2023). Two things decide whether
the maps point at what the name says or away from it (docs/localisation.md has the ablation):

- patch features are not brought to unit length. A place without evidence must be able to be silent; on the unit sphere
  it points somewhere, so background may carry the evidence ("opposite visualisation", Li et al., CLIP Surgery,
  arXiv 2304.05653);
- a name is asked of pictures of its own kind only. Against a chest X-ray any place of an abdominal CT is evidence for
  "the liver", and that is what the map then shows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medzeroseg import distributed

SHOWN, ABSENT, UNSAID = 1, 0, -1
"""Targets of `PresenceLoss`."""


def somewhere(evidence: Tensor, sharpness: float) -> Tensor:
    """How much evidence there is at the best places: ``1 / r log mean_p exp(r e_p)``.

    The mean over the places for r -> 0, their maximum for infinity.

    Args:
        evidence: ``(..., P)``, of P places.
        sharpness: r > 0.

    Returns:
        ``(...)``.
    """
    return (torch.logsumexp(sharpness * evidence, dim=-1) - math.log(evidence.shape[-1])) / sharpness


class PresenceLoss(nn.Module):
    """Binary cross-entropy of names against pictures, each answered by the picture's best places.

    Over several ranks each judges its own pictures; the mean of the ranks' values, and the gradients as DDP averages
    them, are those of one process on all pictures with the same phrases. Computation is in float32, under autocast too.

    Args:
        sharpness: of the pooling over places, see `somewhere`.
        scale: Products of places and phrases times this are logits. Not learned: patch features have any length, and a
            learned one hardly moved. ``sigmoid(scale <f, t>)`` is the probability that a place shows what the phrase
            names (`zero_shot.PresenceOfPrompts`).
        weight: of this loss beside others.

    Raises:
        ValueError: An argument is not a positive number.
    """

    def __init__(self, sharpness: float = 6.0, scale: float = 3.0, weight: float = 1.0) -> None:
        super().__init__()
        for name, value in (("sharpness", sharpness), ("scale", scale), ("weight", weight)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        self.sharpness, self.scale, self.weight = sharpness, scale, weight

    def forward(self, patches: Tensor, phrases: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            patches: ``(N, D, h, w)`` patch features in the joint space, of any length.
            phrases: ``(K, D)``, rows of unit length.
            targets: ``(N, K)``: `SHOWN`, `ABSENT`, or `UNSAID` where the picture is of another kind or nobody knows.

        Returns:
            0-d tensor; 0 where nothing is said.

        Raises:
            ValueError: Shapes do not fit.
        """
        if patches.ndim != 4 or phrases.ndim != 2 or phrases.shape[1] != patches.shape[1]:
            shapes = f"{tuple(patches.shape)} and {tuple(phrases.shape)}"
            raise ValueError(f"patches must be (N, D, h, w) and phrases (K, D), got {shapes}")
        if targets.shape != (len(patches), len(phrases)):
            raise ValueError(f"targets must be {(len(patches), len(phrases))}, got {tuple(targets.shape)}")
        with torch.autocast(patches.device.type, enabled=False):
            products = torch.einsum("ndp,kd->nkp", patches.flatten(2).float(), phrases.float())
            logits = self.scale * somewhere(products, self.sharpness)
            known = targets != UNSAID
            losses = F.binary_cross_entropy_with_logits(logits, (targets == SHOWN).float(), reduction="none")
            said = distributed.all_reduce_sum(known.sum().float()) / distributed.world_size()
            return self.weight * (losses * known).sum() / said.clamp(min=1)
