"""The loss without an M x M matrix, strip by strip: after Cheng et al., Inf-CL, arXiv 2410.17243.

A strip is ``rows`` anchors against all candidates. The forward pass forms the gradients as well, since every
strip is at hand there; the backward pass only scales them. :mod:`medzeroseg.losses.traversal` has three ways
through the strips, all exact:

* symmetric, in a single process: S = Z S^T serves both directions. A first pass over its strips gathers the
  column anchors' sums online. A second one finishes the row anchors, adds both directions' gradients in one
  matrix G and multiplies G S and G^T Z. Strips are kept from the first pass as far as ``keep_bytes`` reaches
  and multiplied again beyond: 3 to 4 products, where autograd on two logit matrices takes 6. Equal
  denominators share one exponential as well (:mod:`medzeroseg.losses.shared`).
* one direction after the other, for local anchors against the candidates of all ranks, and for selection: an
  anchor's row of similarities is complete in its strip, so one pass suffices, 3 products a direction.
* few negatives, where selection leaves few: one product a direction, and gradients that touch only those.

Selection needs no merging over tiles: an anchor's candidates always lie in one strip, where the k-th largest
similarity is found exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from medzeroseg.losses.direction import Gradients
from medzeroseg.losses.traversal import Plan, Traversal

if TYPE_CHECKING:
    from medzeroseg.losses.batch import Batch
    from medzeroseg.losses.functional import Denominator
    from medzeroseg.losses.selection import HardSelection


def tiled_loss(
    batch: Batch,
    denominators: tuple[Denominator, Denominator],
    selection: HardSelection | None,
    plan: Plan,
) -> tuple[Tensor, Tensor]:
    """Value and gradients of :func:`medzeroseg.losses.functional.dense_loss`, up to rounding, in strips.

    Cannot be differentiated twice.
    """
    gathered = (None, None) if batch.is_whole else (batch.all_images, batch.all_texts)
    scalars = [tensor for d in denominators for tensor in (d.scale, d.slope, d.hardness_slope)]
    inputs = (batch.images, batch.texts, *gathered, *scalars)
    wanted = [torch.is_grad_enabled() and tensor is not None and tensor.requires_grad for tensor in inputs]
    gradients = Gradients(batch, embeddings=any(wanted[:4]), scalars=any(wanted[4:]))
    traversal = Traversal(batch, denominators, selection, plan, gradients)
    return cast("tuple[Tensor, Tensor]", _Tiled.apply(traversal, gradients, *inputs))


class _Tiled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:  # noqa: ANN401 (autograd's signature)
        traversal, gradients = cast("tuple[Traversal, Gradients]", args[:2])
        value, effective = traversal.run()
        ctx.found = _in_order(gradients, traversal.batch.is_whole)
        ctx.mark_non_differentiable(effective)
        return value, effective

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        found: list[Tensor | None] = ctx.found
        needed = ctx.needs_input_grad[2:]
        scaled = (g * outer[0] if g is not None and n else None for g, n in zip(found, needed, strict=True))
        return (None, None, *scaled)


def _in_order(gradients: Gradients, is_whole: bool) -> list[Tensor | None]:
    """As the inputs stand: images, texts, those of all ranks, and scale and slopes of both directions."""
    found: list[Tensor | None] = [None] * 4
    if gradients.embeddings:
        found[:2] = [gradients.images, gradients.texts]
        if not is_whole:
            found[2:] = [gradients.all_images, gradients.all_texts]
    each = (gradients.image_to_text, gradients.text_to_image)
    return [*found, *(tensor for d in each for tensor in (d.scale, d.slope, d.hardness_slope))]
