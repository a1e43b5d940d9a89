"""Overlays of a few validation cases while a network trains."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from medzeroseg.callbacks.choosing import evenly_spaced
from medzeroseg.callbacks.segmentation_drawing import SheetCase, draw_sheet
from medzeroseg.colours import COLOURS
from medzeroseg.dashboard import tensorboards
from medzeroseg.figures.painting import colours_of
from medzeroseg.saliency import resize_maps

_NOTE = (
    "Cases evenly spaced in the split; of each the slice with most outlined pixels. Reference: what is trained towards."
)


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
        task: Any = pl_module
        for row, case_id in enumerate(batch["case_id"]):
            mask = batch["native_mask"][row]
            parts = structure_masks(mask, task.structures)
            pixels = int(parts.any(dim=0).sum())
            if case_id not in self._chosen or pixels <= (self._kept[case_id].pixels if case_id in self._kept else -1):
                continue
            with torch.no_grad():
                probabilities = task(batch["image"][row : row + 1])
            size = (mask.shape[0], mask.shape[1])
            found = structure_masks(task.network.labels_at(probabilities, size)[0].cpu(), task.structures)
            drawn = parts.flatten(1).sum(dim=1).sort(descending=True, stable=True).indices[: len(COLOURS)].tolist()
            names = list(task.structures)
            focus = task.network.of_union(probabilities, list(task.structures.values())[drawn[0]])
            shown = resize_maps(focus[:, None], size)[0, 0].float().cpu()
            sheet = SheetCase(
                title=case_id,
                structures=[names[n] for n in drawn],
                colours=colours_of(drawn),
                image=batch["native_image"][row].cpu(),
                reference=parts[drawn],
                results={f"network, epoch {trainer.current_epoch}": (found[drawn], shown)},
            )
            self._kept[case_id] = _Kept(pixels, sheet)

    @rank_zero_only
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw."""
        if not self._kept:
            return
        sheet = draw_sheet([self._kept[name].sheet for name in self._chosen if name in self._kept], _NOTE)
        for writer in tensorboards(trainer):
            writer.add_image("val/segmentation", np.asarray(sheet), trainer.global_step, dataformats="HWC")


def structure_masks(labels: Tensor, structures: dict[str, tuple[int, ...]]) -> Tensor:
    """Label ids (H, W) to the masks (P, H, W) bool, on the CPU, of P structures."""
    ids = labels.cpu()
    return torch.stack([torch.isin(ids, torch.tensor(parts).to(ids)) for parts in structures.values()])
