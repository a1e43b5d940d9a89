"""Reading and writing images: formats, geometry, intensity windows."""

from medzeroseg.imaging.errors import InputError
from medzeroseg.imaging.picture import read_picture
from medzeroseg.imaging.windowing import ABDOMEN_WINDOW_HU, array_to_picture, percentile_window

__all__ = ["ABDOMEN_WINDOW_HU", "InputError", "array_to_picture", "percentile_window", "read_picture"]
