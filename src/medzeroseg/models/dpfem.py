"""DPFEM, the dual-path feature extraction module (Zhang, Huang, Li, PLOS ONE 2026, equations 6-9, figure 3)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Fusion = Literal["concat", "gated"]
Paths = Literal["both", "local", "global"]


class SingleHeadSelfAttention(nn.Module):
    """SHSA (Yun & Ro, SHViT, CVPR 2024, equations 2-5): one head attends over a part of the channels.

    The rest of the channels passes by unchanged; the output projection mixes both. No positions, so any
    grid fits.

    Args:
        channels: Channels in and out.
        attended_channels: Channels that take part in the attention, at most `channels`.
        key_channels: Channels of queries and keys.

    Shapes:
        ``(B, channels, H, W)`` -> ``(B, channels, H, W)``
    """

    def __init__(self, channels: int, attended_channels: int, key_channels: int = 16) -> None:
        """Build the module with random weights."""
        super().__init__()
        self.parts = (attended_channels, channels - attended_channels)
        self.heads_of_qkv = (key_channels, key_channels, attended_channels)
        self.norm = nn.GroupNorm(1, attended_channels)
        self.qkv = nn.Conv2d(attended_channels, sum(self.heads_of_qkv), 1)
        self.project = nn.Sequential(nn.SiLU(), nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Let every position look at every other."""
        attended, passed = torch.split(x, list(self.parts), dim=1)
        qkv = self.qkv(self.norm(attended)).flatten(2).transpose(1, 2)
        # the one head as an axis of its own: fused kernels and ONNX know no other form
        heads = [part.unsqueeze(1) for part in qkv.split(self.heads_of_qkv, dim=2)]
        mixed = F.scaled_dot_product_attention(*heads).squeeze(1)
        out: Tensor = self.project(torch.cat([mixed.transpose(1, 2).reshape(attended.shape), passed], dim=1))
        return out


class DPFEM(nn.Module):
    """Local details and global context of a feature grid, side by side, then fused.

    - F0 = Conv(I) (6): 1 x 1, on normalised features, since towers differ in their scale [O];
    - F_local = SiLU(Pointwise(Depthwise(F0))) (7);
    - F_global = SHSA(F0) (8);
    - F_fused = Conv([F_local, F_global]) (9), 1 x 1 [O].

    ``fusion="gated"`` puts figure 3's "dynamic gated feature fusion" before (9): a gate ``g`` in (0, 1), per
    position and channel, computed from [F_local, F_global], makes the two ``g F_local`` and
    ``(1 - g) F_global`` [O]. With one path there is nothing to fuse or to gate.

    `ImageTextModel` adds ``scale`` times the fused features to its own patch features, and their mean to the
    image embedding [O]. ``scale``, one number a channel, starts at 0: at step 0 the pretrained model is
    unchanged, and the module learns from the contrastive loss, without masks. A model with a patch tower has a second
    one on that tower's grid, which learns from the window loss.

    Args:
        in_channels: C, channels of the grid.
        out_channels: C', channels of the fused features: the dimension of the joint space.
        width: Channels of F0 and of both paths.
        kernel_size: Side of the depthwise kernel in grid positions (odd).
        fusion: ``gated`` or ``concat`` (equation 9 alone).
        paths: ``both``, or one of them for an ablation.

    Raises:
        ValueError: An argument is out of range.

    Shapes:
        ``(B, C, H, W)`` -> ``(B, C', H, W)``, any H and W.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 64,
        kernel_size: int = 3,
        fusion: Fusion = "gated",
        paths: Paths = "both",
    ) -> None:
        """Build the module with random weights and a scale of 0."""
        super().__init__()
        if width < 4:
            raise ValueError(f"width must be at least 4, not {width}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, not {kernel_size}")
        if fusion not in ("concat", "gated"):
            raise ValueError(f"fusion must be 'concat' or 'gated', not {fusion!r}")
        if paths not in ("both", "local", "global"):
            raise ValueError(f"paths must be 'both', 'local' or 'global', not {paths!r}")
        self.norm = nn.GroupNorm(1, in_channels)
        self.reduce = nn.Conv2d(in_channels, width, 1)
        self.local_path: nn.Module | None = None
        self.global_path: nn.Module | None = None
        if paths != "global":
            depthwise = nn.Conv2d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
            self.local_path = nn.Sequential(depthwise, nn.Conv2d(width, width, 1), nn.SiLU())
        if paths != "local":
            # SHViT attends over about a fifth of its channels; of so few we take a quarter
            self.global_path = SingleHeadSelfAttention(width, width // 4)
        self.gate: nn.Module | None = None
        if paths == "both" and fusion == "gated":
            self.gate = nn.Sequential(nn.Conv2d(2 * width, width, 1), nn.Sigmoid())
        self.fuse = nn.Conv2d(2 * width if paths == "both" else width, out_channels, 1)
        self.scale = nn.Parameter(torch.zeros(out_channels))

    def forward(self, features: Tensor) -> Tensor:
        """Feature grid ``(B, C, H, W)`` -> fused features ``(B, C', H, W)``, not yet scaled."""
        reduced = self.reduce(self.norm(features))
        found = [path(reduced) for path in (self.local_path, self.global_path) if path is not None]
        if self.gate is not None:
            gate = self.gate(torch.cat(found, dim=1))
            found = [gate * found[0], (1 - gate) * found[1]]
        fused: Tensor = self.fuse(torch.cat(found, dim=1))
        return fused
