"""Masks and saliency as colours that any colour vision tells apart."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from torch import Tensor

from medzeroseg.colours import COLOURS

# Of cividis (Nuñez, Anderton and Renslow, PLOS ONE 2018): rises evenly in lightness, for normal and red-green vision
CIVIDIS = ((0, 34, 78), (65, 77, 107), (124, 123, 120), (188, 175, 111), (254, 232, 56))
_OPACITY = 0.5

Picture = npt.NDArray[np.uint8]


def overlay(grey: Picture, masks: Tensor, colours: list[int]) -> Picture:
    """Lay masks over a picture, half transparent, the largest below.

    Args:
        grey: (H, W, 3).
        masks: (P, H, W) bool.
        colours: The place of each mask's colour in `COLOURS`.

    Returns:
        (H, W, 3).
    """
    picture = grey.astype(np.float32)
    areas = masks.flatten(1).sum(dim=1)
    for n in areas.argsort(descending=True, stable=True).tolist():  # a few structures
        inside = masks[n].numpy()
        picture[inside] = (1 - _OPACITY) * grey[inside] + _OPACITY * np.array(COLOURS[colours[n]], np.float32)
    return picture.round().astype(np.uint8)


def heat(saliency: Tensor) -> Picture:
    """Saliency (H, W) in [0, 1] in cividis' colours, (H, W, 3)."""
    values = saliency.float().numpy()
    places = np.linspace(0, 1, len(CIVIDIS))
    channels = [np.interp(values, places, [colour[c] for colour in CIVIDIS]) for c in range(3)]
    return np.stack(channels, axis=2).round().astype(np.uint8)


def outline(picture: Picture, mask: Tensor) -> Picture:
    """Draw the inner edge of a mask (H, W) in white."""
    inside = mask.numpy()
    edge = inside & ~ndimage.binary_erosion(inside)
    return np.where(edge[..., None], np.uint8(255), picture)


def colours_of(structures: list[int]) -> list[int]:
    """A colour for each of some structures: its own place in `COLOURS`, from case to case, or the next that is free.

    Args:
        structures: Places of at most as many structures as there are colours, in any order.

    Returns:
        Places in `COLOURS`, each once.
    """
    taken: dict[int, int] = {}
    for structure in sorted(structures):
        places = ((structure + n) % len(COLOURS) for n in range(len(COLOURS)))
        taken[structure] = next(place for place in places if place not in taken.values())
    return [taken[structure] for structure in structures]


def cell_edges(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The outline of a mask along the edges of its pixels, for a plot in the coordinates of pixel centres.

    Args:
        mask: (H, W).

    Returns:
        x and y of the ends of the edges between inside and outside, pairs divided by NaN.
    """
    padded = np.pad(mask, 1)
    rows, columns = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])  # between row r - 1 and row r
    tall_rows, tall_columns = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    gap = np.full(len(rows), np.nan), np.full(len(tall_rows), np.nan)
    xs = [np.stack([columns - 0.5, columns + 0.5, gap[0]], 1), np.stack([tall_columns - 0.5] * 2 + [gap[1]], 1)]
    ys = [np.stack([rows - 0.5, rows - 0.5, gap[0]], 1), np.stack([tall_rows - 0.5, tall_rows + 0.5, gap[1]], 1)]
    return np.concatenate(xs).reshape(-1), np.concatenate(ys).reshape(-1)
