"""A picture of a few test cases: image, reference, and what each method made of them."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from medzeroseg.callbacks.case_observer import CaseObserver
from medzeroseg.callbacks.choosing import evenly_spaced
from medzeroseg.callbacks.segmentation_drawing import SheetCase, draw_sheet, sheet_case
from medzeroseg.dashboard import tensorboards
from medzeroseg.figures.kept_slices import largest_slice
from medzeroseg.files import write_atomically
from medzeroseg.zero_shot.assembly import AssembledCase
from medzeroseg.zero_shot.method import CaseSegmentation

RULE = (
    "Cases evenly spaced in the test split's order; of each the slice with most outlined pixels. Not chosen by score."
)


@dataclass
class _Kept:
    """One slice of a chosen case."""

    index: int
    drawn: list[int]
    sheet: SheetCase = field(repr=False)


class SegmentationSheet(CaseObserver):
    """After a test, leaves `segmentation_sheet.png` in the run's folder and in TensorBoard (`test/segmentation`).

    Which cases: evenly spaced in the split's order, by no score. Which slice: the one whose reference outlines most
    pixels. Which structures: the largest there, as many as there are colours; the saliency shown is the largest's.

    Rank 0 draws, and of the chosen cases those that it segmented.

    Args:
        cases: How many cases.

    Raises:
        ValueError: `cases` is under 1.
    """

    def __init__(self, cases: int = 4) -> None:
        if cases < 1:
            raise ValueError(f"cases must be at least 1, got {cases}")
        self.cases = cases
        self._chosen: list[str] = []
        self._titles: dict[str, str] = {}
        self._kept: dict[str, _Kept] = {}

    def on_cases_start(self, task: Any) -> None:  # noqa: ANN401
        """Choose the cases."""
        ids = [case.case_id for case in task.trainer.datamodule.cases("test")]
        self._chosen = evenly_spaced(ids, self.cases)
        self._kept = {}
        results = task.method_results()
        self._titles = {one.method: f"{one.title}{' (baseline)' if one.baseline else ''}" for one in results}

    @rank_zero_only
    def on_case(self, task: Any, method: str, case: AssembledCase, found: CaseSegmentation) -> None:  # noqa: ANN401
        """Keep the slice of a chosen case."""
        if case.case_id not in self._chosen:
            return
        if case.case_id not in self._kept:
            self._kept[case.case_id] = _look_at(case, task.structures)
        kept = self._kept[case.case_id]
        focus = kept.drawn[0]
        masks = found.masks[kept.drawn, kept.index].cpu()
        kept.sheet.results[self._titles[method]] = (masks, found.native_maps(focus)[kept.index].cpu())

    @rank_zero_only
    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        if not self._kept:
            return
        sheet = draw_sheet([self._kept[name].sheet for name in self._chosen if name in self._kept], RULE)
        for writer in tensorboards(trainer):
            writer.add_image("test/segmentation", np.asarray(sheet), dataformats="HWC")
        buffer = io.BytesIO()
        sheet.save(buffer, format="PNG")
        write_atomically(Path(trainer.default_root_dir) / "segmentation_sheet.png", buffer.getvalue())


def _look_at(case: AssembledCase, structures: dict[str, tuple[int, ...]]) -> _Kept:
    reference = case.reference
    assert reference is not None, case.case_id
    index = largest_slice(reference, structures)
    title = f"{case.case_id}, slice {index + 1} of {len(reference)}"
    sheet, drawn = sheet_case(title, case.images[index], reference[index], structures)
    return _Kept(index, drawn, sheet)
