"""The sheet has a cell for every case and method, and cases chosen by place, not by score."""

import pytest
import torch

from medzeroseg.callbacks import SegmentationSheet
from medzeroseg.callbacks.choosing import evenly_spaced
from medzeroseg.callbacks.segmentation_drawing import SheetCase, draw_sheet


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
