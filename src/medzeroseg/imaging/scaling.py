"""What every reader does to decoded values: scale factors, byte order, and numbers that are not finite."""

from typing import Any

import numpy as np
import numpy.typing as npt


def scaled(values: npt.NDArray[Any], slope: float, intercept: float) -> npt.NDArray[Any]:
    """Apply a header's scale factors without a float64 copy of the volume.

    Args:
        values: Stored numbers of any shape.
        slope: Multiplies them; 0 or not finite means "not scaled", as NIfTI has it.
        intercept: Added afterwards.

    Returns:
        Integers where slope is 1 and the intercept whole (CT), in the smallest of int16 and int32 that holds them;
        else float32. Unscaled integers keep their type.
    """
    if slope == 0 or not np.isfinite(slope) or not np.isfinite(intercept):
        slope, intercept = 1.0, 0.0
    if slope == 1 and intercept == int(intercept) and values.dtype.kind in "iu":
        if intercept == 0:
            return values
        low, high = int(values.min()) + int(intercept), int(values.max()) + int(intercept)
        for kind in (np.int16, np.int32):
            if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
                # each term wraps modulo the type's range, and the sum was shown to lie in it
                shifted: npt.NDArray[Any] = values.astype(kind)
                shifted += np.array(int(intercept)).astype(kind)
                return shifted
    result: npt.NDArray[Any] = values.astype(np.float32)
    if slope != 1:
        result *= np.float32(slope)
    if intercept != 0:
        result += np.float32(intercept)
    return result


def finite_float32(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
    """Replace NaN and infinities by the lowest finite value (the background), and count them.

    Fractional numbers become float32; integers are returned as they are.

    Args:
        values: Any shape.

    Returns:
        The values and how many were replaced.

    Raises:
        ValueError: No value is finite.
    """
    if values.dtype.kind != "f":
        return values, 0
    with np.errstate(over="ignore"):  # beyond float32 a float64 becomes an infinity and is counted as such
        result: npt.NDArray[Any] = values.astype(np.float32, copy=False)
    if np.isfinite(result.sum(dtype=np.float64)):  # one pass without a mask, true for nearly every volume
        return result, 0
    good = np.isfinite(result)
    if not good.any():
        raise ValueError("no value is finite")
    lowest = result[good].min()
    return np.where(good, result, lowest).astype(np.float32, copy=False), int(good.size - good.sum())
