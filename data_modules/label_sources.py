"""Single slices of labelled cases as pictures and label maps, their volumes decoded once a worker."""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from data_modules.cases import CaseArrays, CaseSource
from data_modules.slice_cache_key import Stamp, file_stamps
from medzeroseg.imaging import InputError, array_to_picture

# Each worker process keeps its own few volumes: slices of one volume are often asked for in a row.
_VOLUMES_KEPT = 8


@dataclass(frozen=True, slots=True)
class CaseSlice:
    """One slice of a case.

    Attributes:
        source: Reads the case.
        index: The slice, from 0.
        window: Intensities shown as black and white; by default the slice's own 0.5 and 99.5 percentiles.
    """

    source: CaseSource
    index: int = 0
    window: tuple[float, float] | None = None

    def read(self) -> Image.Image:
        """Show the slice, mode RGB."""
        return array_to_picture(read_case(self.source).image[self.index], self.window)

    def read_label(self) -> npt.NDArray[np.uint8]:
        """Give the slice's label map, (H, W).

        Raises:
            InputError: The case cannot be read, or has no labels.
        """
        mask = read_case(self.source).mask
        if mask is None:
            raise InputError(f"{self.source.files[0]}: the case has no label map")
        label: npt.NDArray[np.uint8] = mask[self.index]
        return label


def read_case(source: CaseSource) -> CaseArrays:
    """Decode a case, or give the one decoded before; not to be changed.

    Raises:
        InputError: A file is missing or damaged.
    """
    # The stamps tell a file from a later version of it, so that a changed one is read again.
    # Sources are frozen dataclasses, which the protocol does not say.
    return _read_case(cast(Hashable, source), tuple(file_stamps(source)))


@lru_cache(maxsize=_VOLUMES_KEPT)
def _read_case(source: Hashable, stamps: tuple[Stamp, ...]) -> CaseArrays:
    return cast(CaseSource, source).read()
