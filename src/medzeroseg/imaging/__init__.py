"""Reading and writing images: formats, geometry, intensity windows."""

from medzeroseg.imaging.errors import InputError
from medzeroseg.imaging.geometry import AxisLayout, Geometry
from medzeroseg.imaging.masks import write_map, write_mask
from medzeroseg.imaging.nifti import read_nifti
from medzeroseg.imaging.picture import read_picture
from medzeroseg.imaging.reading import read_image, read_volume
from medzeroseg.imaging.volume import Volume, from_display, to_display
from medzeroseg.imaging.windowing import (
    ABDOMEN_WINDOW_HU,
    WINDOWS_HU,
    FixedWindow,
    PercentileWindow,
    Window,
    array_to_picture,
    percentile_window,
    square_picture,
)

__all__ = [
    "ABDOMEN_WINDOW_HU",
    "WINDOWS_HU",
    "AxisLayout",
    "FixedWindow",
    "Geometry",
    "InputError",
    "PercentileWindow",
    "Volume",
    "Window",
    "array_to_picture",
    "from_display",
    "percentile_window",
    "read_image",
    "read_nifti",
    "read_picture",
    "read_volume",
    "square_picture",
    "to_display",
    "write_map",
    "write_mask",
]
