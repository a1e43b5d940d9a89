"""Label ids as files hold them: whole numbers, often stored as floating-point ones."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_modules.cases import BACKGROUND, IGNORE, MAX_LABEL
from medzeroseg.imaging import InputError


def to_label_ids(labels: npt.NDArray[Any], path: Path, ignore: int | None = None) -> npt.NDArray[np.uint8]:
    """Turn stored labels, often floating-point numbers, into ids.

    Args:
        labels: Any shape.
        path: Named in errors.
        ignore: The stored value that stands for "unknown" and becomes `cases.IGNORE`.

    Raises:
        InputError: A value is no whole number from 0 to `MAX_LABEL`.
    """
    if labels.dtype.kind == "b" or labels.size == 0:
        return labels.astype(np.uint8)
    unknown = None if ignore is None else labels == ignore
    known = labels if unknown is None or not unknown.any() else np.where(unknown, BACKGROUND, labels)
    ids = known.astype(np.uint8) if known.min() >= 0 and known.max() <= MAX_LABEL else None
    if ids is None or (known.dtype.kind == "f" and not np.array_equal(ids, known)):
        bad = known[~((known >= 0) & (known <= MAX_LABEL) & (known == np.floor(known)))]
        values = ", ".join(f"{value:g}" for value in np.unique(bad)[:5])
        raise InputError(
            f"{path}: the label map holds {values}; label ids are whole numbers from 0 to {MAX_LABEL}. "
            "Is this the label map, and not the image, a probability map or a 0/255 mask?"
        )
    if unknown is not None:
        ids[unknown] = IGNORE
    return ids
