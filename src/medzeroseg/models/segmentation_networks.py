"""Segmentation networks that are trained on masks: builders, since the number of classes is the dataset's."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import numpy as np
import torch
from monai.networks import nets
from PIL import Image
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class GreyTransform:
    """A picture as one grey channel with mean 0 and standard deviation 1; its size stays."""

    is_random: ClassVar[bool] = False  # a dataset need not seed any generator

    def __call__(self, picture: Image.Image) -> Tensor:
        """PIL picture to (1, H, W) float32; a picture of one grey becomes all 0."""
        grey = torch.from_numpy(np.asarray(picture.convert("L"), dtype=np.float32))
        return ((grey - grey.mean()) / grey.std().clamp(min=1.0))[None]


class NetworkBuilder(ABC):
    """Makes a 2-D network for as many classes as a dataset has.

    The network maps (B, 1, H, W) to logits (B, K, H, W), or in training to (B, S, K, H, W): S outputs of falling
    weight, the last layer's first (deep supervision).
    """

    #: what tables call the network
    title: ClassVar[str]

    @abstractmethod
    def __call__(self, classes: int) -> nn.Module:
        """Make the network.

        Args:
            classes: K, the background included.
        """

    @property
    @abstractmethod
    def multiple_px(self) -> int:
        """Height and width of the input must be multiples of this."""


class ResUNet(NetworkBuilder):
    """The residual U-Net of MONAI (Kerfoot et al., STACOM 2018): U-Net with residual units and strided convolutions.

    Args:
        channels: Of the levels, from the finest; each further one halves height and width.
        residual_units: Convolutions in each residual unit.
        dropout: Share of activations dropped in training, in [0, 1).
        norm: `batch` or `instance`. With `activation`, our choice; MONAI's defaults are instance norm and PReLU. Which
            of them segments better was not measured.
        activation: `leakyrelu` (slope 0.1) or `prelu`. Both pass a gradient on either side of zero.

    Raises:
        ValueError: An argument is out of range.
    """

    title: ClassVar[str] = "ResUNet"

    def __init__(
        self,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
        residual_units: int = 2,
        dropout: float = 0.0,
        norm: Literal["batch", "instance"] = "batch",
        activation: Literal["leakyrelu", "prelu"] = "leakyrelu",
    ) -> None:
        _check_levels("channels", channels)
        if residual_units < 1:
            raise ValueError(f"residual_units must be at least 1, got {residual_units}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {dropout}")
        self.channels, self.residual_units, self.dropout = tuple(channels), residual_units, dropout
        self.norm, self.activation = norm, activation

    def __call__(self, classes: int) -> nn.Module:
        """Make the network."""
        network = nets.UNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=classes,
            channels=self.channels,
            strides=(2,) * (len(self.channels) - 1),
            num_res_units=self.residual_units,
            dropout=self.dropout,
            norm=self.norm,
            act="prelu" if self.activation == "prelu" else ("leakyrelu", {"negative_slope": 0.1}),
        )
        return cast(nn.Module, network)

    @property
    def multiple_px(self) -> int:
        """Two to the number of halvings."""
        return int(2 ** (len(self.channels) - 1))


class DynUNet(NetworkBuilder):
    """The U-Net of nnU-Net (Isensee et al., Nature Methods 2021) in MONAI's form.

    The architecture alone, at fixed levels: nnU-Net's planning, its 1,000 epochs, its ensembling are not here, so rows
    name it "DynUNet (nnU-Net style)".

    Args:
        filters: Of the levels, from the finest; each further one halves height and width.
        deep_supervision: Number of coarser outputs that are trained, too; 0 for none.

    Raises:
        ValueError: An argument is out of range.
    """

    title: ClassVar[str] = "DynUNet (nnU-Net style)"

    def __init__(self, filters: Sequence[int] = (32, 64, 128, 256, 512), deep_supervision: int = 2) -> None:
        _check_levels("filters", filters)
        if not 0 <= deep_supervision <= len(filters) - 2:
            raise ValueError(f"deep_supervision must be from 0 to {len(filters) - 2}, got {deep_supervision}")
        self.filters, self.deep_supervision = tuple(filters), deep_supervision

    def __call__(self, classes: int) -> nn.Module:
        """Make the network."""
        levels = len(self.filters)
        network = nets.DynUNet(
            spatial_dims=2,
            in_channels=1,
            out_channels=classes,
            kernel_size=(3,) * levels,
            strides=(1, *(2,) * (levels - 1)),
            upsample_kernel_size=(2,) * (levels - 1),
            filters=self.filters,
            deep_supervision=self.deep_supervision > 0,
            deep_supr_num=max(self.deep_supervision, 1),
        )
        return cast(nn.Module, network)

    @property
    def multiple_px(self) -> int:
        """Two to the number of halvings."""
        return int(2 ** (len(self.filters) - 1))


def _check_levels(name: str, widths: Sequence[int]) -> None:
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"{name} must be two or more numbers of at least 1, got {list(widths)}")
