"""The interface of segmenters that turn boxes and points into masks."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

PADDING_POINT = -1
"""Label of a point that is not there: rows of `SpatialPrompts.points` may have different numbers of points."""


@dataclass(frozen=True)
class SpatialPrompts:
    """Where to segment: one row a mask.

    Attributes:
        boxes: (N, 4), x_min, y_min, x_max, y_max: the first and the last pixel of the box, as SAM counts; or None.
        points: (N, K, 2), x and y in pixels; or None.
        point_labels: (N, K) int64: 1 inside, 0 outside, `PADDING_POINT` no point; present exactly with `points`.
        coarse_masks: (N, H, W) bool, what is thought to be the structure; segmenters that can't use them don't.
    """

    boxes: Tensor | None = None
    points: Tensor | None = None
    point_labels: Tensor | None = None
    coarse_masks: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            ValueError: A part has another shape than described, or there is neither a box nor a point.
        """
        if self.boxes is None and self.points is None:
            raise ValueError("prompts need boxes or points")
        if (self.points is None) != (self.point_labels is None):
            raise ValueError("points and point_labels come together")
        if self.boxes is not None and (self.boxes.ndim != 2 or self.boxes.shape[1] != 4):
            raise ValueError(f"boxes must be (N, 4), got {tuple(self.boxes.shape)}")
        if self.points is not None and self.point_labels is not None:
            if self.points.ndim != 3 or self.points.shape[2] != 2:
                raise ValueError(f"points must be (N, K, 2), got {tuple(self.points.shape)}")
            if self.point_labels.shape != self.points.shape[:2]:
                raise ValueError(f"point_labels must be (N, K), got {tuple(self.point_labels.shape)}")
        parts = [part for part in (self.boxes, self.points, self.coarse_masks) if part is not None]
        if len({len(part) for part in parts}) > 1:
            raise ValueError(f"prompts differ in number: {', '.join(str(len(part)) for part in parts)}")

    def __len__(self) -> int:
        """The number of masks asked for."""
        part = self.boxes if self.boxes is not None else self.points
        return 0 if part is None else len(part)


@dataclass(frozen=True)
class SegmentedPrompts:
    """What was segmented for each prompt.

    Attributes:
        probabilities: (N, H, W) float32 in [0, 1], at the image's own size; a mask is where it is over one half.
        scores: (N,) float32, the segmenter's own belief in each mask; comparable within one segmenter alone.
    """

    probabilities: Tensor
    scores: Tensor


class PromptableSegmenter(nn.Module, ABC):
    """Segments what boxes and points show; the image is encoded once for all its prompts.

    encoded = segmenter.encode(image)
    found = segmenter.decode(encoded, SpatialPrompts(boxes=boxes))
    """

    @abstractmethod
    def encode(self, image: Tensor) -> Any:  # noqa: ANN401 - each segmenter's own
        """Look at an image.

        Args:
            image: (H, W) float in [0, 1], grey, windowed.

        Returns:
            What `decode` needs; opaque to callers.
        """

    @abstractmethod
    def decode(self, encoded: Any, prompts: SpatialPrompts) -> SegmentedPrompts:  # noqa: ANN401
        """Segment each prompt in an encoded image.

        Args:
            encoded: From `encode`.
            prompts: N prompts; N may be 0.

        Returns:
            N masks at the image's size.
        """

    def forward(self, image: Tensor, prompts: SpatialPrompts) -> SegmentedPrompts:
        """Encode and decode: (H, W) -> N masks."""
        return self.decode(self.encode(image), prompts)


def nothing(image_size: tuple[int, int], device: torch.device) -> SegmentedPrompts:
    """The answer to no prompt."""
    return SegmentedPrompts(torch.zeros(0, *image_size, device=device), torch.zeros(0, device=device))
