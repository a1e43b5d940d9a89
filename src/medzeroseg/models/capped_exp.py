"""The exponential of a learned logarithm, bounded, for the logit scale."""

from typing import Any

import torch
from torch import Tensor


class CappedExp(torch.autograd.Function):
    """min(exp(x), cap), whose gradient vanishes above the cap only if it would push x further up.

    A plain clamp has no gradient above its bound: a parameter that stepped over it would stay there for good.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cap: float) -> Tensor:  # noqa: ANN401
        """Any shape -> the same."""
        out = x.exp()
        ctx.save_for_backward(out)
        ctx.cap = cap
        return out.clamp(max=cap)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        """Gradient of the exponential, but none that pushes further over the cap."""
        (out,) = ctx.saved_tensors
        blocked = (out > ctx.cap) & (grad < 0)
        return torch.where(blocked, torch.zeros_like(grad), grad * out.clamp(max=ctx.cap)), None
