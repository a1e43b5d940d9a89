"""One view of open_clip's image towers: pooled embedding, patch grid, and where saliency may look.

Each adapter knows one family of towers. It holds a reference to the tower and no parameters of its own.
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from medzeroseg.imaging.errors import InputError
from medzeroseg.models.local_convnet import LocalConvNet
from medzeroseg.models.tower import Layer, Tower
from medzeroseg.models.value_attention import ValuePath, value_block

PatchPath = Literal["tokens"] | ValuePath


@dataclass(frozen=True)
class SaliencyLayer:
    """A layer whose output a saliency method may hook.

    Attributes:
        name: Module path; `ImageTextModel.get_submodule` finds it.
        kind: ``"tokens"``: output ``(B, prefix_tokens + h * w, C)``; ``"grid"``: output ``(B, C, h', w')``.
        channels: C.
        safe: Whether the gradient of the image embedding at the patch positions is non-zero. Towers that pool
            the class token never look at the patch tokens again after the last attention, so there
            the gradient is exactly zero and a class activation map is empty.
        prefix_tokens: Tokens before the patches (class token, registers).
    """

    name: str
    kind: Literal["tokens", "grid"]
    channels: int
    safe: bool
    prefix_tokens: int = 0


@dataclass(frozen=True)
class ImageFeatures:
    """What one pass through an image tower gives.

    Attributes:
        pooled: Embedding before normalisation, ``(B, D)``.
        patches: Patch features before the projection, ``(B, C, h, w)``.
    """

    pooled: Tensor
    patches: Tensor


class ImageTower(Tower):
    """Adapter of one family of open_clip image towers."""

    #: whether images must have exactly the size that the tower was built for
    fixed_size: bool = True
    #: how the patch features leave the last block (`value_attention`); other than "tokens" in transformers only
    patch_path: PatchPath = "tokens"

    def __init__(self, visual: Any) -> None:  # noqa: ANN401
        """Adapt an open_clip image tower."""
        self.visual = visual

    @property
    def module(self) -> nn.Module:  # noqa: D102
        visual: nn.Module = self.visual
        return visual

    @abstractmethod
    def forward(self, images: Tensor) -> ImageFeatures:
        """Images ``(B, 3, H, W)`` -> pooled embedding and patch features, in one pass."""

    @abstractmethod
    def project(self, patches: Tensor) -> Tensor:
        """Patch features ``(B, C, h, w)`` -> joint space ``(B, D, h, w)``, as the pooled path projects."""

    @property
    @abstractmethod
    def patch_channels(self) -> int:
        """C, the channels of the patch features."""

    @abstractmethod
    def grid(self, height_px: int, width_px: int) -> tuple[int, int]:
        """Rows and columns of the patch grid for an image size."""

    @abstractmethod
    def saliency_layers(self, prefix: str) -> tuple[SaliencyLayer, ...]:
        """The layers from shallow to deep; `prefix` is the tower's module path with a trailing dot."""

    def blocks(self) -> list[nn.Module]:
        """As `Tower.blocks`, without one that is looked into (`patch_path`)."""
        blocks = super().blocks()
        return blocks if self.patch_path == "tokens" else blocks[:-1]

    def _entering(self, block: nn.Module) -> AbstractContextManager[list[Tensor]]:
        """Collects what enters a block, where the patch path needs it: a hook would break compiled code."""
        return nullcontext([]) if self.patch_path == "tokens" else _inputs_of(block)


class TimmViTTower(ImageTower):
    """timm's vision transformers (BiomedCLIP)."""

    def __init__(self, visual: Any) -> None:  # noqa: ANN401
        """Adapt the tower; its pooling must be one that can be repeated patch by patch."""
        super().__init__(visual)
        trunk = visual.trunk
        if getattr(trunk, "attn_pool", None) is not None or trunk.global_pool not in ("token", "avg"):
            raise InputError(f"image tower pooling {trunk.global_pool!r} is not supported: token or avg")

    def forward(self, images: Tensor) -> ImageFeatures:  # noqa: D102
        trunk = self.visual.trunk
        with self._entering(trunk.blocks[-1]) as entered:
            tokens = trunk.forward_features(images)
        pooled = self.visual.head(trunk.forward_head(tokens))
        if self.patch_path != "tokens":
            tokens = trunk.norm(value_block(trunk.blocks[-1], entered[0], self.patch_path))
        h, w = self.grid(images.shape[-2], images.shape[-1])
        patches = tokens[:, trunk.num_prefix_tokens :].transpose(1, 2).unflatten(2, (h, w))
        return ImageFeatures(pooled, patches)

    def project(self, patches: Tensor) -> Tensor:
        """As above. With average pooling timm norms after the mean; here each patch is normed by itself."""
        trunk = self.visual.trunk
        features = trunk.head(trunk.head_drop(trunk.fc_norm(patches.movedim(1, -1))))
        projected: Tensor = self.visual.head(features)
        return projected.movedim(-1, 1)

    @property
    def patch_channels(self) -> int:  # noqa: D102
        return int(self.visual.trunk.embed_dim)

    def grid(self, height_px: int, width_px: int) -> tuple[int, int]:  # noqa: D102
        h, w = self.visual.trunk.patch_embed.dynamic_feat_size((height_px, width_px))
        return int(h), int(w)

    def saliency_layers(self, prefix: str) -> tuple[SaliencyLayer, ...]:  # noqa: D102
        trunk = self.visual.trunk
        return _transformer_layers(
            f"{prefix}trunk.blocks",
            len(trunk.blocks),
            norms=("norm1", "norm2"),
            channels=trunk.embed_dim,
            prefix_tokens=trunk.num_prefix_tokens,
            pools_token=trunk.global_pool == "token",
        )

    def layers(self) -> list[Layer]:  # noqa: D102
        trunk = self.visual.trunk
        embedding = [trunk.patch_embed, trunk.pos_embed, trunk.cls_token, trunk.norm_pre]
        return [[part for part in embedding if part is not None], *([block] for block in trunk.blocks)]

    def stacks(self) -> list[nn.Module]:  # noqa: D102
        return [self.visual.trunk.blocks] if self.patch_path == "tokens" else self.blocks()

    def set_grad_checkpointing(self, enable: bool) -> None:  # noqa: D102
        self.visual.trunk.set_grad_checkpointing(enable)  # open_clip would turn a refusal into a line of the log


class OpenClipViTTower(ImageTower):
    """open_clip's own vision transformer (OpenAI CLIP)."""

    def __init__(self, visual: Any) -> None:  # noqa: ANN401
        """Adapt the tower; its pooling must be one that can be repeated patch by patch."""
        super().__init__(visual)
        if visual.attn_pool is not None or visual.pool_type not in ("tok", "avg"):
            raise InputError("attentional pooling of the image tower is not supported: pool_type tok or avg")

    def forward(self, images: Tensor) -> ImageFeatures:  # noqa: D102
        block = self.visual.transformer.resblocks[-1]
        with self._entering(block) as entered:
            out = self.visual.forward_intermediates(images, indices=1)
        patches = out["image_intermediates"][-1]
        if self.patch_path != "tokens":
            tokens = value_block(block, entered[0], self.patch_path)
            patches = torch.unflatten(tokens[:, 1:].transpose(1, 2), 2, patches.shape[2:])
        return ImageFeatures(out["image_features"], patches)

    def project(self, patches: Tensor) -> Tensor:  # noqa: D102
        projected: Tensor = self.visual.ln_post(patches.movedim(1, -1)) @ self.visual.proj
        return projected.movedim(-1, 1)

    @property
    def patch_channels(self) -> int:  # noqa: D102
        return int(self.visual.transformer.width)

    def grid(self, height_px: int, width_px: int) -> tuple[int, int]:  # noqa: D102
        return height_px // self.visual.patch_size[0], width_px // self.visual.patch_size[1]

    def saliency_layers(self, prefix: str) -> tuple[SaliencyLayer, ...]:  # noqa: D102
        return _transformer_layers(
            f"{prefix}transformer.resblocks",
            len(self.visual.transformer.resblocks),
            norms=("ln_1", "ln_2"),
            channels=self.visual.transformer.width,
            prefix_tokens=1,
            pools_token=self.visual.pool_type == "tok",
        )

    def layers(self) -> list[Layer]:  # noqa: D102
        visual = self.visual
        embedding = [visual.conv1, visual.class_embedding, visual.positional_embedding, visual.ln_pre]
        return [embedding, *([block] for block in visual.transformer.resblocks)]


class ModifiedResNetTower(ImageTower):
    """CLIP's ResNet with attention pooling (PMC-CLIP)."""

    def forward(self, images: Tensor) -> ImageFeatures:  # noqa: D102
        out = self.visual.forward_intermediates(images, indices=1)
        return ImageFeatures(out["image_features"], out["image_intermediates"][-1])

    def project(self, patches: Tensor) -> Tensor:
        """Value and output projection of the attention pooling, without its mixing.

        The embedding is, head by head, a convex combination of exactly these vectors and of that of the mean
        token (the dense features of Zhou et al., MaskCLIP, ECCV 2022, with the positional embedding kept).
        """
        pool = self.visual.attnpool
        positions = pool.positional_embedding[1:].to(patches.dtype)
        tokens = patches.flatten(2).transpose(1, 2) + positions
        projected: Tensor = pool.c_proj(pool.v_proj(tokens))
        return projected.transpose(1, 2).reshape(patches.shape[0], -1, *patches.shape[2:])

    @property
    def patch_channels(self) -> int:  # noqa: D102
        return int(self.visual.layer4[-1].conv3.out_channels)

    def grid(self, height_px: int, width_px: int) -> tuple[int, int]:  # noqa: D102
        return height_px // 32, width_px // 32

    def saliency_layers(self, prefix: str) -> tuple[SaliencyLayer, ...]:  # noqa: D102
        return tuple(
            SaliencyLayer(f"{prefix}layer{i}", "grid", stage[-1].conv3.out_channels, safe=True)
            for i, stage in enumerate(self._stages(), start=1)
        )

    def layers(self) -> list[Layer]:  # noqa: D102
        visual = self.visual
        stem = [visual.conv1, visual.bn1, visual.conv2, visual.bn2, visual.conv3, visual.bn3]
        return [stem, *([stage] for stage in self._stages())]

    def set_grad_checkpointing(self, enable: bool) -> None:  # noqa: D102
        if enable:
            raise ValueError("ModifiedResNet cannot checkpoint gradients: its batch norms would update twice")

    def _stages(self) -> list[Any]:
        return [self.visual.layer1, self.visual.layer2, self.visual.layer3, self.visual.layer4]


class LocalConvNetTower(ImageTower):
    """The packaged convolutional trunk: mean pooling and a linear projection, so both paths agree exactly."""

    fixed_size = False

    def forward(self, images: Tensor) -> ImageFeatures:  # noqa: D102
        patches = self.visual.trunk.forward_features(images)
        return ImageFeatures(self.visual.head(self.visual.trunk.forward_head(patches)), patches)

    def project(self, patches: Tensor) -> Tensor:  # noqa: D102
        projected: Tensor = self.visual.head(patches.movedim(1, -1))
        return projected.movedim(-1, 1)

    @property
    def patch_channels(self) -> int:  # noqa: D102
        return int(self.visual.trunk.num_features)

    def grid(self, height_px: int, width_px: int) -> tuple[int, int]:  # noqa: D102
        stride_px = self.visual.trunk.stride_px
        return height_px // stride_px, width_px // stride_px

    def saliency_layers(self, prefix: str) -> tuple[SaliencyLayer, ...]:  # noqa: D102
        return tuple(
            SaliencyLayer(f"{prefix}trunk.stages.{i}.{j}", "grid", block.conv_dw.out_channels, safe=True)
            for i, stage in enumerate(self.visual.trunk.stages)
            for j, block in enumerate(stage)
            if hasattr(block, "conv_dw")
        )

    def layers(self) -> list[Layer]:  # noqa: D102
        return [[self.visual.trunk.stem], *([stage] for stage in self.visual.trunk.stages)]


def adapt_image_tower(visual: nn.Module, patch_path: PatchPath = "tokens") -> ImageTower:
    """The adapter for an open_clip image tower.

    Args:
        visual: The tower.
        patch_path: How the patch features leave the last block.

    Raises:
        InputError: The tower is of a family that has no adapter.
        ValueError: `patch_path` is unknown, or the tower has no attention block to replace.
    """
    if patch_path not in ("tokens", "value", "value_value"):
        raise ValueError(f"patch_path must be 'tokens', 'value' or 'value_value', not {patch_path!r}")
    tower = _adapter(visual)
    if patch_path != "tokens" and not isinstance(tower, TimmViTTower | OpenClipViTTower):
        inner = getattr(visual, "trunk", visual)
        raise ValueError(f"patch_path {patch_path!r} is for vision transformers, not for {type(inner).__name__}")
    tower.patch_path = patch_path
    return tower


def _adapter(visual: nn.Module) -> ImageTower:
    if isinstance(visual, VisionTransformer):
        return OpenClipViTTower(visual)
    if isinstance(visual, ModifiedResNet):
        return ModifiedResNetTower(visual)
    if isinstance(visual, TimmModel):
        if isinstance(visual.trunk, LocalConvNet):
            return LocalConvNetTower(visual)
        vit_parts = ("blocks", "patch_embed", "fc_norm", "num_prefix_tokens")
        if all(hasattr(visual.trunk, name) for name in vit_parts):
            return TimmViTTower(visual)
    inner = getattr(visual, "trunk", visual)
    raise InputError(
        f"image tower {type(inner).__name__} is not supported: timm or open_clip vision transformers, "
        "ModifiedResNet, or the packaged LocalConvNet"
    )


@contextmanager
def _inputs_of(block: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what enters a block while the context is open."""
    entered: list[Tensor] = []
    handle = block.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    try:
        yield entered
    finally:
        handle.remove()


def _transformer_layers(
    blocks: str, count: int, norms: tuple[str, str], channels: int, prefix_tokens: int, pools_token: bool
) -> tuple[SaliencyLayer, ...]:
    """First norm, second norm and output of every block; see `SaliencyLayer.safe` for the last block."""
    found = []
    for i in range(count):
        last = i == count - 1
        for name, after_attention in ((f".{norms[0]}", False), (f".{norms[1]}", True), ("", True)):
            safe = not (pools_token and last and after_attention)
            found.append(SaliencyLayer(f"{blocks}.{i}{name}", "tokens", channels, safe, prefix_tokens))
    return tuple(found)
