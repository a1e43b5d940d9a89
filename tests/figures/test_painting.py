"""Masks and saliency as colours."""

import numpy as np
import torch

from medzeroseg.colours import COLOURS
from medzeroseg.figures.painting import cell_edges, colours_of, heat, outline, overlay


def test_masks_have_their_colours_and_small_ones_lie_on_top() -> None:
    grey = np.zeros((8, 8, 3), np.uint8)
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, 2:4, 2:4] = True  # inside the second
    masks[1, 1:7, 1:7] = True
    picture = overlay(grey, masks, [3, 0])
    half = [tuple(round(0.5 * value + 1e-9) for value in COLOURS[n]) for n in (3, 0)]
    assert np.abs(picture[2, 2].astype(int) - half[0]).max() <= 1
    assert np.abs(picture[6, 6].astype(int) - half[1]).max() <= 1
    assert not picture[0].any()


def test_saliency_grows_lighter_and_the_reference_is_outlined_in_white() -> None:
    lightness = heat(torch.linspace(0, 1, 32)[None]).astype(float) @ [0.299, 0.587, 0.114]
    assert (np.diff(lightness[0]) > 0).all()
    mask = torch.zeros(6, 6, dtype=torch.bool)
    mask[1:5, 1:5] = True
    drawn = outline(np.zeros((6, 6, 3), np.uint8), mask)
    assert (drawn == 255).all(axis=2).sum() == 12


def test_a_structure_keeps_its_colour_unless_it_is_taken() -> None:
    assert colours_of([2, 0, 5]) == [2, 0, 5]
    assert colours_of([7, 0]) == [1, 0]
    assert sorted(colours_of([12, 11, 10, 9, 8, 7, 6])) == list(range(len(COLOURS)))


def test_outlines_run_along_the_edges_of_pixels() -> None:
    mask = np.zeros((3, 4), np.bool_)
    mask[1, 1:3] = True
    xs, ys = (values.reshape(-1, 3) for values in cell_edges(mask))
    assert np.isnan(xs[:, 2]).all()
    edges = {((x[0], y[0]), (x[1], y[1])) for x, y in zip(xs, ys, strict=True)}
    assert edges == {
        *((((0.5, y), (1.5, y))) for y in (0.5, 1.5)),
        *((((1.5, y), (2.5, y))) for y in (0.5, 1.5)),
        *(((x, 0.5), (x, 1.5)) for x in (0.5, 2.5)),
    }
    whole_xs, _ = cell_edges(np.ones((2, 2), np.bool_))
    assert len(whole_xs) == 3 * 8  # the picture's border, too
