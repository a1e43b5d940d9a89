"""Contrast between the places of an image and the phrases of a caption.

A caption matches an image as far as each of its phrases finds a place there: late interaction with
text-conditioned pooling, in the manner of GLoRIA (Huang et al., ICCV 2021), FILIP (Yao et al., ICLR 2022) and SPARC
(Bica et al., ICML 2024). No place is ever annotated.

Unlike there, patch features are NOT brought to unit length. A patch without evidence must be able to be silent. On the
unit sphere it points somewhere, so background tokens may carry the evidence ("opposite visualisation", Li et al., CLIP
Surgery, arXiv 2304.05653): in toys with known truth the maximum of the map lay right in 17-100 % of
cases with unit patches and in 70-100 % without (docs/localisation.md).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medzeroseg import distributed


def phrase_similarity(patches: Tensor, phrases: Tensor, sharpness: float) -> Tensor:
    """How well each phrase is matched somewhere in each image.

    ``S(k, n) = 1 / r log mean_p exp(r <f_np, t_k>)``: the mean over the places for r -> 0, their maximum for
    infinity.

    Args:
        patches: ``(N, P, D)``, of any length.
        phrases: ``(K, D)``, rows of unit length.
        sharpness: r > 0.

    Returns:
        ``(K, N)``.
    """
    products = torch.einsum("npd,kd->knp", patches, phrases)
    return (torch.logsumexp(sharpness * products, dim=2) - math.log(patches.shape[1])) / sharpness


def caption_similarity(of_phrases: Tensor, captions: Tensor, count: int) -> Tensor:
    """The mean over each caption's phrases.

    Args:
        of_phrases: ``(K, N)`` as `phrase_similarity` gives it.
        captions: ``(K,)`` long, the caption to which each phrase belongs, 0..count-1; each has one at least.
        count: the number of captions M.

    Returns:
        ``(M, N)``.
    """
    members = F.one_hot(captions, count).to(of_phrases.dtype)
    return (members / members.sum(dim=0)).T @ of_phrases


def anchor_loss(similarity: Tensor, positive: Tensor, excluded: Tensor, scale: Tensor) -> Tensor:
    """InfoNCE for anchors whose similarities are given, not made of unit vectors.

    Args:
        similarity: ``(A, M)`` of each anchor to all candidates.
        positive: ``(A,)`` of each anchor to its positive.
        excluded: ``(A, M)`` bool, candidates that are no negatives, the positive among them.
        scale: logit scale, 0-d.

    Returns:
        ``(A,)``; 0 where all candidates are excluded.
    """
    own = scale * positive
    negatives = (scale * similarity).masked_fill(excluded, -torch.inf)
    return torch.logsumexp(torch.cat([own[:, None], negatives], dim=1), dim=1) - own


class LocalAlignmentLoss(nn.Module):
    """Contrast of captions and images by what their phrases and places say to each other.

    The value is the sum of the two directions (caption to images, image to captions), each averaged over its
    anchors, as in `ContrastiveLoss`. Over several ranks each computes its own anchors against the candidates of
    all; the mean of the ranks' values, and the gradients as DDP averages them, are those of one process on the
    concatenated batch. Patches and phrases of all ranks are gathered for it: ``(M, P, D)`` and ``(K, D)``, and one
    rank holds two similarity tensors of ``K_rank x M x P`` and ``K x M_rank x P`` numbers.

    Computation is in float32, under autocast too. Its logit scale is its own and learned: products of places and
    phrases spread otherwise than cosines of pooled embeddings.

    Args:
        sharpness: of the pooling over places, see `phrase_similarity`.
        init_logit_scale: logit scale to start from, in (0, 100). It is 100 times a sigmoid: never beyond CLIP's
            cap and never stuck at it.
        weight: factor of the value.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        sharpness: float = 2.0,
        init_logit_scale: float = 5.0,
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        for name, value in (("sharpness", sharpness), ("weight", weight)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a finite number > 0, not {value}")
        if not 0 < init_logit_scale < 100:
            raise ValueError(f"init_logit_scale must be in (0, 100), not {init_logit_scale}")
        self.sharpness, self.weight = sharpness, weight
        self.scale_logit = nn.Parameter(torch.tensor(math.log(init_logit_scale / (100 - init_logit_scale))))

    def forward(self, patches: Tensor, phrases: Tensor, captions: Tensor, text_ids: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            patches: ``(M, D, h, w)`` patch features in the joint space, of any length.
            phrases: ``(K, D)`` phrase embeddings, rows of unit length.
            captions: ``(K,)`` long, the pair 0..M-1 to which each phrase belongs; each pair has one at least.
            text_ids: ``(M,)`` long; pairs with equal ids are no negatives of each other. None: all are.

        Returns:
            0-d tensor.

        Raises:
            ValueError: Shapes do not fit, a pair has no phrase, or the global batch has fewer than two pairs.
        """
        count = len(patches)
        if patches.ndim != 4 or phrases.ndim != 2 or phrases.shape[1] != patches.shape[1]:
            raise ValueError(
                "patches must be (M, D, h, w) and phrases (K, D), "
                f"not {tuple(patches.shape)} and {tuple(phrases.shape)}"
            )
        if captions.shape != phrases.shape[:1] or len(torch.unique(captions)) != count:
            raise ValueError(f"captions must name each of the {count} pairs once at least, one entry a phrase")
        with torch.autocast(patches.device.type, enabled=False):
            places = patches.flatten(2).transpose(1, 2).float()
            return self.weight * self._value(places, phrases.float(), captions, text_ids)

    def _value(self, places: Tensor, phrases: Tensor, captions: Tensor, text_ids: Tensor | None) -> Tensor:
        sizes = distributed.batch_sizes(places)
        count, total = len(places), sum(sizes)
        if total < 2:
            raise ValueError("a contrastive loss needs at least 2 pairs in the (global) batch")
        offset = sum(sizes[: distributed.rank()])
        own = torch.arange(offset, offset + count, device=places.device)
        ids = torch.arange(total, device=places.device)
        if text_ids is not None:
            ids = distributed.all_gather_with_grad(text_ids, sizes)
        excluded = ids[own, None] == ids[None, :]
        all_places = distributed.all_gather_with_grad(places, sizes)
        from_captions = caption_similarity(phrase_similarity(all_places, phrases, self.sharpness), captions, count)
        from_images = from_captions.T
        if distributed.is_distributed():
            all_phrases = distributed.all_gather_with_grad(phrases)
            all_captions = distributed.all_gather_with_grad(captions + offset)
            similarity = phrase_similarity(places, all_phrases, self.sharpness)
            from_images = caption_similarity(similarity, all_captions, total).T
        positive = from_captions.gather(1, own[:, None])[:, 0]
        scale = 100 * self.scale_logit.sigmoid()
        both = anchor_loss(from_captions, positive, excluded, scale) + anchor_loss(
            from_images, positive, excluded, scale
        )
        # of the ranks' mean to be the mean over all anchors, also where ranks hold different numbers of pairs
        return both.sum() * (distributed.world_size() / total)
