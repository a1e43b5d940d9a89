"""A segmentation network that speaks a dataset's label ids."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn
from torch.nn import functional as F

from medzeroseg.models.segmentation_networks import NetworkBuilder

BACKGROUND, UNKNOWN = 0, 255


class SliceSegmenter(nn.Module):
    """A 2-D network, the label ids of its classes, and how it predicts.

    Args:
        build: Makes the network.
        label_ids: The dataset's ids, 1..254; class 0 is the background, class k the k-th id in rising order.
        window_px: Predict in square windows of this side that overlap by half; None: the whole image at once.
        flips: Average with the predictions of the image mirrored along each axis and along both.
    """

    label_ids: Tensor
    class_of_id: Tensor

    def __init__(
        self, build: NetworkBuilder, label_ids: Iterable[int], window_px: int | None = None, flips: bool = False
    ) -> None:
        super().__init__()
        ids = sorted(label_ids)
        table = torch.full((256,), UNKNOWN)
        table[[BACKGROUND, *ids]] = torch.arange(len(ids) + 1)
        # In checkpoints, so that weights for other labels are told apart.
        self.register_buffer("label_ids", torch.tensor([BACKGROUND, *ids], dtype=torch.uint8))
        self.register_buffer("class_of_id", table, persistent=False)
        # Convolutions are faster in this order of memory.
        self.network = build(len(ids) + 1).to(memory_format=torch.channels_last)
        self.window_px, self.flips = window_px, flips
        self.windows = None if window_px is None else SlidingWindowInferer(window_px, 8, overlap=0.5, mode="gaussian")

    def forward(self, images: Tensor) -> Tensor:
        """Logits: (B, 1, H, W) -> (B, K, H, W), or (B, S, K, H, W) in training with deep supervision."""
        return cast(Tensor, self.network(images.contiguous(memory_format=torch.channels_last)))

    def to_classes(self, mask: Tensor) -> Tensor:
        """Label ids (..., any integers 0..255) to classes (...) int64, `UNKNOWN` where unknown."""
        return self.class_of_id[mask.long()]

    def probabilities(self, images: Tensor) -> Tensor:
        """Class probabilities: (B, 1, H, W) -> (B, K, H, W) float32, in evaluation mode."""
        axes: Sequence[tuple[int, ...]] = ((), (2,), (3,), (2, 3)) if self.flips else ((),)
        return torch.stack([self._predict(images.flip(one)).flip(one) for one in axes]).mean(dim=0)

    def _predict(self, images: Tensor) -> Tensor:
        wider = self.window_px is not None and max(images.shape[2:]) > self.window_px
        logits = self.windows(images, self) if self.windows is not None and wider else self(images)
        return cast(Tensor, logits).float().softmax(dim=1)

    def labels_at(self, probabilities: Tensor, size: tuple[int, int]) -> Tensor:
        """Label ids at another size: (D, K, h, w) -> (D, H, W) uint8; the probabilities are resized, not the labels."""
        resized = F.interpolate(probabilities, size, mode="bilinear", align_corners=False)
        return self.label_ids[resized.argmax(dim=1)]

    def of_union(self, probabilities: Tensor, ids: Sequence[int]) -> Tensor:
        """Probability of a union of labels: (D, K, h, w) -> (D, h, w)."""
        classes = self.class_of_id[list(ids)]
        return probabilities[:, classes].sum(dim=1).clamp(max=1)


def random_windows(images: Tensor, classes: Tensor, side_px: int, keys: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Cut a square window out of each image and its classes, where its key says.

    Args:
        images: (B, 1, H, W).
        classes: (B, H, W).
        side_px: Side; a smaller image stays whole along that axis.
        keys: One an image; equal keys give equal places.

    Returns:
        (B, 1, h, w) and (B, h, w).
    """
    height, width = images.shape[2:]
    tall, wide = min(side_px, height), min(side_px, width)
    digests = [hashlib.sha256(key.encode()).digest() for key in keys]
    tops = [int.from_bytes(digest[:8], "big") % (height - tall + 1) for digest in digests]
    lefts = [int.from_bytes(digest[8:16], "big") % (width - wide + 1) for digest in digests]
    cuts = [
        (n, slice(top, top + tall), slice(left, left + wide))
        for n, (top, left) in enumerate(zip(tops, lefts, strict=True))
    ]
    return (
        torch.stack([images[n, :, rows, columns] for n, rows, columns in cuts]),
        torch.stack([classes[n, rows, columns] for n, rows, columns in cuts]),
    )
