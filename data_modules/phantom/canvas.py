"""A picture and its label map, painted together so that they cannot disagree."""

import numpy as np

from data_modules.phantom.geometry import FloatImage, Grid, LabelImage


class Canvas:
    """An image in physical units and its label map.

    Args:
        grid: Pixel grid.
        background: Value of the empty image.
    """

    def __init__(self, grid: Grid, background: float) -> None:
        self.grid = grid
        self.image: FloatImage = np.full((grid.size_px, grid.size_px), background, np.float32)
        self.labels: LabelImage = np.zeros((grid.size_px, grid.size_px), np.uint8)

    def paint(self, cover: FloatImage, value: float | FloatImage, label: int | None = None) -> None:
        """Blend `value` over the image.

        Args:
            cover: Coverage, 0 to 1, shape `(H, W)`.
            value: Intensity, a number or an image of shape `(H, W)`.
            label: Written where at least half of the pixel is covered; `None` leaves the labels as they are,
                0 clears them.
        """
        self.image += cover * (np.float32(value) - self.image)
        self.mark(cover, label)

    def add(self, cover: FloatImage, value: float | FloatImage, label: int | None = None) -> None:
        """Add `value` to the image, as overlapping tissue does in a projection (arguments as in `paint`)."""
        self.image += cover * np.float32(value)
        self.mark(cover, label)

    def mark(self, cover: FloatImage, label: int | None) -> None:
        """Write the label where at least half of the pixel is covered."""
        if label is not None:
            np.putmask(self.labels, cover >= 0.5, label)
