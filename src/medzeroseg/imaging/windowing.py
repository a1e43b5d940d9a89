"""Intensity windows: from the values of a scan to the 8-bit pictures that an image-text model looks at."""

import numpy as np
import numpy.typing as npt
from PIL import Image

ABDOMEN_WINDOW_HU = (-160.0, 240.0)
"""Soft tissue of the abdomen, in Hounsfield units: level 40, width 400."""

MR_PERCENTILES = (0.5, 99.5)
"""MR has no absolute scale: the brightest and darkest half per cent of a volume are clipped."""


def percentile_window(values: npt.ArrayLike, percentiles: tuple[float, float] = MR_PERCENTILES) -> tuple[float, float]:
    """Find the window that clips the given percentiles; take it over a whole volume, not slice by slice.

    Args:
        values: Intensities of any shape; values that are not finite are left out.
        percentiles: Lower and upper percentile, 0..100.

    Returns:
        The lower and the upper intensity; equal ones when all values are equal, (0, 0) when none is finite.
    """
    array = np.asarray(values, dtype=np.float64)
    finite = array[np.isfinite(array)]
    if finite.size == 0:
        return 0.0, 0.0
    low, high = np.percentile(finite, percentiles)
    return float(low), float(high)


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
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"values: expected one slice of shape (H, W), got shape {array.shape}")
    low, high = percentile_window(array) if window is None else window
    if high < low:
        raise ValueError(f"window: the upper intensity {high} is below the lower one {low}")
    if high == low:
        grey = np.zeros(array.shape)
    else:
        grey = np.clip((np.nan_to_num(array, nan=low, posinf=high, neginf=low) - low) / (high - low), 0.0, 1.0)
    return Image.fromarray(np.rint(grey * 255).astype(np.uint8)).convert("RGB")
