"""The last attention of a vision transformer without its mixing of places, for dense features.

The class token gathers from everywhere, so the last attention of a CLIP-type tower carries foreign evidence
into each patch token, background tokens above all. Two known remedies, neither of which trains anything:

- ``value`` (Zhou et al., MaskCLIP, ECCV 2022): every token attends to itself alone; the block is otherwise
  as trained;
- ``value_value`` (Li et al., CLIP Surgery, arXiv 2304.05653): tokens attend to tokens with like values,
  ``softmax(v v^T / sqrt(d)) v``, and the block's MLP is left out. Surgery does so in several of the last
  blocks on a second path; here it is the last block alone [O], so one pass gives the embedding too.
"""

from typing import Any, Literal

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor, nn
from torch.nn import functional as F

ValuePath = Literal["value", "value_value"]


def value_block(block: nn.Module, tokens: Tensor, path: ValuePath) -> Tensor:
    """Run a transformer block with its attention replaced.

    Args:
        block: A block of timm's or open_clip's vision transformers.
        tokens: What enters the block, ``(B, N, C)``, batch first.
        path: ``value`` or ``value_value``.

    Returns:
        Tokens ``(B, N, C)``; the final norm is still to come.
    """
    if isinstance(block, ResidualAttentionBlock):
        return _of_open_clip(block, tokens, path)
    return _of_timm(block, tokens, path)


def _of_timm(block: Any, tokens: Tensor, path: ValuePath) -> Tensor:  # noqa: ANN401
    attention = block.attn
    normed = block.norm1(tokens)
    values = attention.qkv(normed).chunk(3, dim=-1)[2]
    # optional parts of timm's attention; identities in CLIP-type towers
    mixed = attention.norm(_mix(values, attention.num_heads, path))
    if attention.gate is not None:
        mixed = mixed * attention.gate(normed).sigmoid()
    out: Tensor = tokens + block.ls1(attention.proj(mixed))
    return out if path == "value_value" else out + block.ls2(block.mlp(block.norm2(out)))


def _of_open_clip(block: ResidualAttentionBlock, tokens: Tensor, path: ValuePath) -> Tensor:
    attention = block.attn
    weight = attention.in_proj_weight.chunk(3)[2]
    bias = None if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)[2]
    values = F.linear(block.ln_1(tokens), weight, bias)
    out: Tensor = tokens + block.ls_1(attention.out_proj(_mix(values, attention.num_heads, path)))
    return out if path == "value_value" else out + block.ls_2(block.mlp(block.ln_2(out)))


def _mix(values: Tensor, heads: int, path: ValuePath) -> Tensor:
    if path == "value":
        return values
    of_heads = torch.unflatten(values, 2, (heads, -1)).transpose(1, 2)
    return F.scaled_dot_product_attention(of_heads, of_heads, of_heads).transpose(1, 2).flatten(2)
