"""What a label map says about its picture, as plain words: sizes, positions, enumerations."""

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def bucket(value: float, limits: Sequence[float], words: Sequence[str]) -> str:
    """Name the interval that a value falls in.

    Args:
        value: The measurement.
        limits: Rising limits; a value at a limit belongs to the interval above it.
        words: One more than there are limits, from lowest to highest.

    Raises:
        ValueError: The numbers of limits and words do not fit.
    """
    if len(words) != len(limits) + 1:
        raise ValueError(f"words: expected {len(limits) + 1} for {len(limits)} limits, got {len(words)}")
    return words[bisect_right(limits, value)]


def centre(mask: Mask) -> tuple[float, float]:
    """Find the centroid of a non-empty mask.

    Args:
        mask: Shape (H, W).

    Returns:
        Row and column as fractions of height and width, 0 at the top and left edge, 1 at the bottom and
        right.
    """
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    return float((rows.mean() + 0.5) / height), float((columns.mean() + 0.5) / width)


def direction(down: float, right: float, tolerance: float) -> str:
    """Say in which direction an offset points, ready to be followed by what it starts from.

    Args:
        down: Offset down the image (negative: up).
        right: Offset to the right of the image (negative: left).
        tolerance: Smaller offsets are not mentioned.

    Returns:
        "above", "to the left of", "below and to the right of", ..., or "" when both offsets are small.
    """
    vertical = "below" if down > tolerance else "above" if down < -tolerance else ""
    sideways = "to the right of" if right > tolerance else "to the left of" if right < -tolerance else ""
    return " and ".join(word for word in (vertical, sideways) if word)


def enumerate_words(words: Sequence[str]) -> str:
    """Join words as in a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
