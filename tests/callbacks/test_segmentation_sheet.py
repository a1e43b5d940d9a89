"""The sheet shows reference and masks in the structures' colours, and cases chosen by place, not by score."""

import numpy as np
import pytest
import torch

from medzeroseg.callbacks import SegmentationSheet
from medzeroseg.callbacks.segmentation_drawing import SheetCase, draw_sheet, heat, outline, overlay
from medzeroseg.callbacks.segmentation_sheet import colours_of, evenly_spaced
from medzeroseg.colours import COLOURS


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


def test_every_case_and_method_has_its_cells() -> None:
    def case(name: str, methods: int) -> SheetCase:
        mask = torch.ones(1, 20, 10, dtype=torch.bool)
        results = {f"method {n}": (mask, torch.rand(20, 10)) for n in range(methods)}
        return SheetCase(name, ["liver"], [0], torch.rand(20, 10), mask, results)

    small = draw_sheet([case("a", 1)], "rule")
    wide, high = draw_sheet([case("a", 3)], "rule"), draw_sheet([case("a", 1), case("b", 1)], "rule")
    assert wide.width > small.width
    assert high.height > small.height + 200


def test_cases_are_chosen_by_place() -> None:
    names = [str(n) for n in range(10)]
    assert evenly_spaced(names, 2) == ["2", "7"]
    assert evenly_spaced(names[:2], 4) == ["0", "1"]
    with pytest.raises(ValueError, match="at least 1"):
        SegmentationSheet(cases=0)


def test_a_structure_keeps_its_colour_unless_it_is_taken() -> None:
    assert colours_of([2, 0, 5]) == [2, 0, 5]
    assert colours_of([7, 0]) == [1, 0]
    assert sorted(colours_of([12, 11, 10, 9, 8, 7, 6])) == list(range(len(COLOURS)))
