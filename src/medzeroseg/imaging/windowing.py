"""Intensity windows: from the values of a scan to the 8-bit pictures that an image-text model looks at."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

ABDOMEN_WINDOW_HU = (-160.0, 240.0)
"""Soft tissue of the abdomen, in Hounsfield units: level 40, width 400."""

WINDOWS_HU: dict[str, tuple[float, float]] = {
    "abdomen": ABDOMEN_WINDOW_HU,
    "transunet": (-125.0, 275.0),  # TransUNet's preprocessing of Synapse: level 75, width 400
    "mediastinum": (-125.0, 225.0),  # level 50, width 350
    "lung": (-1350.0, 150.0),  # level -600, width 1500
    "bone": (-450.0, 1050.0),  # level 300, width 1500
    "brain": (0.0, 80.0),  # level 40, width 80
}
"""CT windows by name, (low, high) in Hounsfield units: the usual settings of viewers."""

MR_PERCENTILES = (0.5, 99.5)
"""MR has no absolute scale: the brightest and darkest half per cent of a volume are clipped."""


class Window(ABC):
    """Which intensities are shown as black and as white. Make one for a whole volume, not slice by slice."""

    @abstractmethod
    def bounds(self, values: npt.ArrayLike) -> tuple[float, float]:
        """The intensities of black and of white for a volume of any shape."""

    def apply(self, values: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Clip to the window and scale to [0, 1].

        Args:
            values: A volume of any shape.

        Returns:
            float32 of the same shape; 0 throughout where the window has no width, 0 where a value is NaN.
        """
        low, high = self.bounds(values)
        return _scale(np.asarray(values), low, high).astype(np.float32, copy=False)


@dataclass(frozen=True)
class FixedWindow(Window):
    """The same intensities for every volume: CT, 8-bit pictures.

    Args:
        low: Shown as black, as all below it.
        high: Shown as white, as all above it.

    Raises:
        ValueError: They are not finite, or `high` is not above `low`.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse an empty window."""
        if not (np.isfinite(self.low) and np.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"window: low must be below high, got {self.low} and {self.high}")

    def bounds(self, values: npt.ArrayLike) -> tuple[float, float]:
        """`(low, high)`, whatever the values are."""
        return self.low, self.high


@dataclass(frozen=True)
class PercentileWindow(Window):
    """Percentiles of each volume: MR, deep-grey radiographs.

    Args:
        lower: Percentile shown as black, 0..100.
        upper: Percentile shown as white.

    Raises:
        ValueError: They are not 0 <= lower < upper <= 100.
    """

    lower: float = MR_PERCENTILES[0]
    upper: float = MR_PERCENTILES[1]

    def __post_init__(self) -> None:
        """Refuse what are no percentiles."""
        if not 0 <= self.lower < self.upper <= 100:
            raise ValueError(f"percentiles: expected 0 <= lower < upper <= 100, got {self.lower} and {self.upper}")

    def bounds(self, values: npt.ArrayLike) -> tuple[float, float]:
        """The two percentiles of the finite values."""
        return percentile_window(values, (self.lower, self.upper))


def percentile_window(values: npt.ArrayLike, percentiles: tuple[float, float] = MR_PERCENTILES) -> tuple[float, float]:
    """Find the window that clips the given percentiles; take it over a whole volume, not slice by slice.

    Args:
        values: Intensities of any shape; values that are not finite are left out.
        percentiles: Lower and upper percentile, 0..100.

    Returns:
        The lower and the upper intensity; equal ones when all values are equal, (0, 0) when none is finite.
    """
    array = np.asarray(values)
    # integers are partitioned in their own type: a float64 copy of a CT is 200 MB and slower
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    if finite.size == 0:
        return 0.0, 0.0
    # one partition in the array's own type; np.percentile interpolates in it as well, and 16-bit integers overflow
    positions = [percentile / 100 * (finite.size - 1) for percentile in percentiles]
    below = [math.floor(position) for position in positions]
    above = [math.ceil(position) for position in positions]
    parted = np.partition(finite.ravel(), sorted({*below, *above}))
    low, high = (
        float(parted[left]) + (position - left) * (float(parted[right]) - float(parted[left]))
        for position, left, right in zip(positions, below, above, strict=True)
    )
    return low, high


def array_to_picture(values: npt.ArrayLike, window: tuple[float, float] | None = None) -> Image.Image:
    """Turn one slice into an 8-bit RGB picture of three equal channels.

    Args:
        values: Intensities, shape (H, W); row 0 is the top of the picture.
        window: Intensities shown as black and as white, values beyond them are clipped;
            by default the 0.5 and 99.5 percentiles of this slice.

    Returns:
        The picture, mode RGB, size (W, H). What is not finite and a slice without contrast are black.

    Raises:
        ValueError: `values` has not two dimensions, or `window` is upside down.
    """
    array = np.asarray(values)
    if array.ndim != 2:
        raise ValueError(f"values: expected one slice of shape (H, W), got shape {array.shape}")
    low, high = percentile_window(array) if window is None else window
    if high < low:
        raise ValueError(f"window: the upper intensity {high} is below the lower one {low}")
    grey = _scale(array.astype(np.float64), low, high)
    return Image.fromarray(np.rint(grey * 255).astype(np.uint8)).convert("RGB")


def square_picture(grey: npt.NDArray[np.float32], side_px: int) -> Image.Image:
    """Squash a windowed slice to the square that an image-text model is shown.

    Nothing is cut off and nothing padded, so maps of the square go back to the slice by a plain resize.

    Args:
        grey: (H, W) in [0, 1].
        side_px: Side of the square.

    Returns:
        The picture, 8-bit RGB of three equal channels.
    """
    picture = Image.fromarray(np.rint(grey * 255).astype(np.uint8))
    if picture.size != (side_px, side_px):
        picture = picture.resize((side_px, side_px), Image.Resampling.BICUBIC)
    return picture.convert("RGB")


def _scale(array: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[Any]:
    """To [0, 1] in the precision of `array` if that is floating, else in float32."""
    kind = array.dtype if array.dtype == np.float64 else np.dtype(np.float32)
    if high <= low:
        return np.zeros(array.shape, kind)
    scaled: npt.NDArray[Any] = array.astype(kind)
    if array.dtype.kind == "f":
        np.nan_to_num(scaled, copy=False, nan=low, posinf=high, neginf=low)
    scaled -= low
    scaled /= high - low
    return np.clip(scaled, 0.0, 1.0, out=scaled)
