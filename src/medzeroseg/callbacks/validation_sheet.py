"""Overlays of a few validation cases while a network trains."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from medzeroseg.callbacks.choosing import evenly_spaced
from medzeroseg.callbacks.segmentation_drawing import SheetCase, draw_sheet, sheet_case, structure_masks
from medzeroseg.dashboard import tensorboards
from medzeroseg.saliency import resize_maps

_NOTE = (
    "Cases evenly spaced in the split; of each the slice with most outlined pixels. Reference: what is trained towards."
)


_READ = ("image", "native_image", "native_mask")


@dataclass
class _Kept:
    pixels: int
    sheet: SheetCase = field(repr=False)


class ValidationSheet(Callback):
    """After each validation, shows image, reference, the network's mask and its probability (`val/segmentation`).

    Which cases: evenly spaced in the split's order, by no score; which slice: the one with most outlined pixels. What
    is called reference is what the network is trained towards: with a teacher, the teacher's mask. Rank 0 draws, and of
    the chosen cases those that it validates. The slices pass the network once more; nothing random is drawn.

    Args:
        cases: How many cases.

    Raises:
        ValueError: `cases` is below 1.
    """

    def __init__(self, cases: int = 3) -> None:
        if cases < 1:
            raise ValueError(f"cases must be at least 1, got {cases}")
        self.cases = cases
        self._chosen: list[str] = []
        self._kept: dict[str, _Kept] = {}

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Choose the cases."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        names = [case.case_id for case in data.cases("val")]
        self._chosen, self._kept = evenly_spaced(names, self.cases), {}

    @rank_zero_only
    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401 - Lightning's STEP_OUTPUT
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the largest slice of each chosen case."""
        if trainer.sanity_checking or not tensorboards(trainer):
            return
        for row, case_id in enumerate(batch["case_id"]):
            if case_id in self._chosen:
                self._look(pl_module, case_id, {name: batch[name][row] for name in _READ})

    def _look(self, task: Any, case_id: str, slice_: dict[str, Any]) -> None:  # noqa: ANN401
        mask = slice_["native_mask"].cpu()
        pixels = int(structure_masks(mask, task.structures).any(dim=0).sum())
        if case_id in self._kept and pixels <= self._kept[case_id].pixels:
            return
        sheet, drawn = sheet_case(case_id, slice_["native_image"], mask, task.structures)
        size = (mask.shape[0], mask.shape[1])
        with torch.no_grad():
            probabilities = task(slice_["image"][None])
        found = structure_masks(task.network.labels_at(probabilities, size)[0].cpu(), task.structures)
        focus = task.network.of_union(probabilities, list(task.structures.values())[drawn[0]])
        shown = resize_maps(focus[:, None], size)[0, 0].float().cpu()
        sheet.results[f"network, epoch {task.current_epoch}"] = (found[drawn], shown)
        self._kept[case_id] = _Kept(pixels, sheet)

    @rank_zero_only
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        if not self._kept:
            return
        sheet = draw_sheet([self._kept[name].sheet for name in self._chosen if name in self._kept], _NOTE)
        for writer in tensorboards(trainer):
            writer.add_image("val/segmentation", np.asarray(sheet), trainer.global_step, dataformats="HWC")
