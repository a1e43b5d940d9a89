"""The one interface of the loss family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from medzeroseg import distributed
from medzeroseg.losses import functional, shared
from medzeroseg.losses.batch import Batch
from medzeroseg.losses.functional import Denominator
from medzeroseg.losses.selection import HardSelection
from medzeroseg.losses.tiled import tiled_loss
from medzeroseg.losses.traversal import Plan, automatic_plan

DuplicateTexts = Literal["keep", "ignore"]
TileSize = int | Literal["auto"] | None


class Effective(NamedTuple):
    """Effective negatives averaged over all anchors of all ranks; each 0-d."""

    image_to_text: Tensor
    text_to_image: Tensor


class ContrastiveLoss(nn.Module, ABC):
    """Base of the family: ``loss(image_embeddings, text_embeddings, logit_scale, text_ids=None) -> scalar``.

    The value is the sum of the two directions, each averaged over its anchors (equations 1-3 of the
    publication); open_clip's ``ClipLoss`` halves that sum.

    Where a process group with several ranks is initialised, every rank computes the anchors it holds against
    the negatives of all ranks. The mean of the ranks' values, and the gradients as DDP averages them, are
    those of one process on the concatenated batch, also where ranks hold different numbers of pairs. Gradient
    *accumulation* over small batches does not enlarge the set of negatives: each call sees only its own
    batch.

    Computation is in float32 (float64 for float64 inputs), under autocast too.

    Args:
        duplicate_texts: ``ignore`` takes pairs with the same ``text_ids`` out of each other's negatives;
            ``keep`` treats them like any other. An anchor that is left without any negative then has the loss
            ``log c`` (0 for InfoNCE and CEHNC) where its denominator holds the positive, else 0; either way
            no gradient.
        tile_size: number of anchors whose similarities are held at a time, so that an ``(M, M)`` matrix never
            is; None for the plain dense computation, the one for ``torch.compile``. ``auto``: dense up to 256
            pairs, strips beyond, with the similarities kept for their second use up to 512 MiB. Loss and
            gradients are the same.
    """

    def __init__(self, duplicate_texts: DuplicateTexts = "keep", tile_size: TileSize = "auto") -> None:
        super().__init__()
        if duplicate_texts not in ("keep", "ignore"):
            raise ValueError(f"duplicate_texts must be 'keep' or 'ignore', not {duplicate_texts!r}")
        if isinstance(tile_size, str):
            valid = tile_size == "auto"
        else:
            valid = tile_size is None or (not isinstance(tile_size, bool) and tile_size >= 1)
        if not valid:
            raise ValueError(f"tile_size must be a positive int, 'auto' or null, not {tile_size!r}")
        self.duplicate_texts = duplicate_texts
        self.tile_size = tile_size
        self._effective: Effective | None = None
        self._candidates: int | None = None

    @abstractmethod
    def denominators(self, logit_scale: Tensor) -> tuple[Denominator, Denominator]:
        """The denominators of the two directions, image to text first, for a 0-d ``logit_scale``.

        Where their values are equal, so must be their derivatives by ``logit_scale``: one then stands for both.
        """

    def selection(self) -> HardSelection | None:
        """The hard negatives to keep now; None for all."""
        return None

    def update_difficulty(self, effective: Effective, candidates: int) -> None:
        """Adapt to a training step whose loss is computed; ``candidates`` is the global batch size."""

    def forward(
        self,
        image_embeddings: Tensor,
        text_embeddings: Tensor,
        logit_scale: Tensor | float,
        text_ids: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            image_embeddings: ``(M, D)``, rows of unit length (not checked: it would cost a pass over the
                data).
            text_embeddings: ``(M, D)``, rows of unit length; row n belongs to image n.
            logit_scale: 1 / temperature; a positive float or a tensor with one element, which may require
                grad.
            text_ids: ``(M,)`` long, equal exactly where the captions are identical; needed only where
                duplicates are ignored.

        Returns:
            0-d tensor.

        Raises:
            ValueError: for shapes that do not fit, a batch without negatives, missing ``text_ids``.
        """
        self._check(image_embeddings, text_embeddings, logit_scale, text_ids)
        with torch.autocast(image_embeddings.device.type, enabled=False):
            images, texts = _at_least_float32(image_embeddings, text_embeddings)
            scale = torch.as_tensor(logit_scale, dtype=images.dtype, device=images.device).reshape(())
            value, effective, candidates = self._both_directions(images, texts, scale, text_ids)
        self._effective, self._candidates = effective, candidates
        if self.training and torch.is_grad_enabled():
            with torch.no_grad():
                self.update_difficulty(effective, candidates)
        return value

    def diagnostics(self) -> dict[str, Tensor]:
        """Detached scalars of the last call, for logging; equal on all ranks, without communication.

        ``effective_negatives`` is (sum p)^2 / sum p^2 over each anchor's weighted negatives p, averaged over
        anchors, directions and ranks; not a number before the first call.
        """
        if self._effective is None:
            return {"effective_negatives": torch.tensor(torch.nan)}
        return {"effective_negatives": (self._effective.image_to_text + self._effective.text_to_image) / 2}

    def extra_repr(self) -> str:
        """The constructor's arguments, for ``print(module)``."""
        return f"duplicate_texts={self.duplicate_texts!r}, tile_size={self.tile_size!r}"

    def _both_directions(
        self, images: Tensor, texts: Tensor, scale: Tensor, text_ids: Tensor | None
    ) -> tuple[Tensor, Effective, int]:
        batch = Batch.gather(images, texts, text_ids if self.duplicate_texts == "ignore" else None)
        plan = self._plan(batch)
        denominators, selection = self.denominators(scale), self.selection()
        if plan is None:
            value, effective = self._dense(batch, denominators, selection)
        else:
            value, effective = tiled_loss(batch, denominators, selection, plan)
        effective = distributed.all_reduce_sum(effective) / batch.candidates
        return value, Effective(*effective.unbind()), batch.candidates

    def _dense(
        self, batch: Batch, denominators: tuple[Denominator, Denominator], selection: HardSelection | None
    ) -> tuple[Tensor, Tensor]:
        # The short cut looks at values, which would break the graph of torch.compile.
        if not torch.compiler.is_compiling() and selection is None and batch.is_whole and shared.applies(*denominators):
            found = shared.dense_loss(batch, denominators)
            if found is not None:
                return found
        return functional.dense_loss(batch, denominators, selection)

    def _plan(self, batch: Batch) -> Plan | None:
        if self.tile_size is None:
            return None
        return automatic_plan(batch.candidates) if self.tile_size == "auto" else Plan(rows=self.tile_size)

    def _check(self, images: Tensor, texts: Tensor, logit_scale: Tensor | float, text_ids: Tensor | None) -> None:
        if images.ndim != 2 or images.shape != texts.shape:
            raise ValueError(
                "image_embeddings and text_embeddings must both be (M, D), "
                f"not {tuple(images.shape)} and {tuple(texts.shape)}"
            )
        if isinstance(logit_scale, Tensor):
            if logit_scale.numel() != 1:
                raise ValueError(f"logit_scale must hold one value, not {tuple(logit_scale.shape)}")
        elif not logit_scale > 0:
            raise ValueError(f"logit_scale must be positive, not {logit_scale}")
        if text_ids is None:
            if self.duplicate_texts == "ignore":
                raise ValueError("duplicate_texts='ignore' needs text_ids: one id a pair, equal for equal captions")
        elif text_ids.shape != images.shape[:1]:
            raise ValueError(f"text_ids must be ({images.shape[0]},), one id a pair, not {tuple(text_ids.shape)}")


def _at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    dtype = torch.float64 if all(t.dtype == torch.float64 for t in tensors) else torch.float32
    return tuple(t.to(dtype) for t in tensors)
