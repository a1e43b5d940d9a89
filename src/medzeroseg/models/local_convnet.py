"""A small convolutional trunk with a limited receptive field, registered with timm.

Global attention trained from scratch on a few thousand pairs moves the evidence for an organ to background
tokens (Li et al., CLIP Surgery, arXiv 2304.05653). A trunk that sees only a neighbourhood of each position
cannot so easily, which keeps its dense features usable for localisation. The blocks are ConvNeXt's (Liu et
al., CVPR 2022). LayerNorm throughout: no statistics of the batch, hence the same result on one rank or many
and under gradient caching.
"""

import math
from typing import Any, ClassVar

import torch
from timm.layers import LayerNorm2d
from timm.models import checkpoint_seq, register_model
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn


class LocalConvNet(nn.Module):
    """Convolutional trunk: patches, then stages of depthwise blocks on ever coarser grids.

    The final norm comes before the pooling, so a linear projection of the mean equals the mean of the
    projections: the dense features live in the space of the pooled one.

    Args:
        widths: Channels of each stage.
        depths: Blocks of each stage.
        strides: Side and stride of the patches in pixels, then the step from each stage's grid to the next one's.
        kernel_size: Side of the depthwise kernels in grid positions (odd).
        mlp_ratio: Expansion of the pointwise MLP of each block.
        in_chans: Channels of the image.
        num_classes: Outputs of the classifier; 0 for none.
        global_pool: ``"avg"``, or ``""`` for no pooling.

    Shapes:
        images ``(B, in_chans, H, W)`` -> features ``(B, widths[-1], h, w)`` with
        ``h = H / prod(strides)``.
    """

    # open_clip asks timm trunks for the grid that an attention pooling would need; this one has none
    default_cfg: ClassVar[dict[str, Any]] = {}

    def __init__(
        self,
        widths: tuple[int, ...] = (32, 64, 128),
        depths: tuple[int, ...] = (1, 3, 1),
        strides: tuple[int, ...] = (4, 2, 2),
        kernel_size: int = 5,
        mlp_ratio: float = 2.0,
        in_chans: int = 3,
        num_classes: int = 0,
        global_pool: str = "avg",
    ) -> None:
        """Build the trunk with random weights."""
        super().__init__()
        if not len(widths) == len(depths) == len(strides):
            raise ValueError(f"widths, depths and strides must be equally long, not {widths}, {depths} and {strides}")
        self.num_features = widths[-1]
        self.stride_px = math.prod(strides)
        self.grad_checkpointing = False
        self.stem = nn.Sequential(nn.Conv2d(in_chans, widths[0], strides[0], strides[0]), LayerNorm2d(widths[0]))
        stages: list[nn.Module] = []
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            down: list[nn.Module] = []
            if i > 0:
                down = [
                    LayerNorm2d(widths[i - 1]),
                    nn.Conv2d(widths[i - 1], width, kernel_size=strides[i], stride=strides[i]),
                ]
            blocks = [
                ConvNeXtBlock(width, kernel_size=kernel_size, mlp_ratio=mlp_ratio, ls_init_value=None)
                for _ in range(depth)
            ]
            stages.append(nn.Sequential(*down, *blocks))
        self.stages = nn.Sequential(*stages)
        self.norm = LayerNorm2d(self.num_features)
        self.apply(_init_weights)
        self.reset_classifier(num_classes, global_pool)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier (timm's interface; open_clip removes it this way)."""
        if global_pool is not None:
            if global_pool not in ("avg", ""):
                raise ValueError(f"global_pool must be 'avg' or '', not {global_pool!r}")
            self.global_pool = global_pool
        self.head = nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Trade time for memory: recompute the stages in the backward pass."""
        self.grad_checkpointing = enable

    def forward_features(self, x: Tensor) -> Tensor:
        """Images ``(B, in_chans, H, W)`` -> normalised features ``(B, C, h, w)``."""
        # depthwise convolutions and the pointwise MLPs run 1.5 to 2 times faster with the channels innermost
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        recompute = self.grad_checkpointing and torch.is_grad_enabled()
        x = checkpoint_seq(self.stages, x) if recompute else self.stages(x)
        out: Tensor = self.norm(x)
        return out

    def forward_head(self, x: Tensor) -> Tensor:
        """Features ``(B, C, h, w)`` -> ``(B, C)`` or class scores."""
        out: Tensor = self.head(x.mean(dim=(2, 3)) if self.global_pool else x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, in_chans, H, W)`` -> ``(B, C)`` or class scores."""
        return self.forward_head(self.forward_features(x))


def _init_weights(module: nn.Module) -> None:
    """Variance-preserving (He et al., ICCV 2015). ConvNeXt's 0.02 all but closes branches as narrow as these."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@register_model  # type: ignore[untyped-decorator]
def local_convnet_small(pretrained: bool = False, **kwargs: Any) -> LocalConvNet:  # noqa: ANN401
    """The image trunk of the packaged `small` model; there are no pretrained weights for it."""
    if pretrained:
        raise ValueError("local_convnet_small has no pretrained weights; set timm_model_pretrained: false")
    # timm's factory adds these for its own models, whatever the entry point
    factory_only = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
    own = {key: value for key, value in kwargs.items() if key not in factory_only}
    return LocalConvNet(**own)
