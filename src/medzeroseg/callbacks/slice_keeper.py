"""Keeps one slice of every test case, with all masks and maps, for the figures."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from medzeroseg.callbacks.case_observer import CaseObserver
from medzeroseg.callbacks.choosing import evenly_spaced
from medzeroseg.distributed import all_gather_with_grad, batch_sizes, rank
from medzeroseg.figures.kept_slices import (
    KeptSlice,
    KeptSlices,
    largest_slice,
    merge_slices,
    pack_slices,
    unpack_slices,
    write_slices,
)
from medzeroseg.zero_shot.assembly import AssembledCase
from medzeroseg.zero_shot.method import CaseSegmentation


class SliceKeeper(CaseObserver):
    """After a test, leaves `test_slices.npz` in the run's folder (`medzeroseg.figures.kept_slices`).

    Which slice: the one whose reference outlines most pixels, the first of equals; so all runs keep the same one. Cases
    are packed as they come (`pack_slices` says how large they are). The ranks' slices are gathered; rank 0 writes.

    Args:
        max_cases: Of how many cases at most, evenly spaced in the split's order; bounds memory and file.

    Raises:
        ValueError: `max_cases` is under 1.
    """

    def __init__(self, max_cases: int = 500) -> None:
        if max_cases < 1:
            raise ValueError(f"max_cases must be at least 1, got {max_cases}")
        self.max_cases = max_cases
        self._order: list[str] = []
        self._wanted: set[str] = set()
        self._packed: dict[str, bytes] = {}
        self._current: KeptSlice | None = None
        self._structures: dict[str, tuple[int, ...]] = {}

    def on_cases_start(self, task: Any) -> None:  # noqa: ANN401
        """Choose the cases."""
        self._order = [case.case_id for case in task.trainer.datamodule.cases("test")]
        self._wanted = set(evenly_spaced(self._order, self.max_cases))
        self._structures = {name: tuple(labels) for name, labels in task.structures.items()}
        self._packed, self._current = {}, None

    def on_case(self, task: Any, method: str, case: AssembledCase, found: CaseSegmentation) -> None:  # noqa: ANN401
        """Keep what a method made of the slice."""
        if case.case_id not in self._wanted:
            return
        if self._current is None or self._current.case_id != case.case_id:
            self._pack()
            self._current = _slice_of(case, self._structures)
        kept = self._current
        kept.masks[method] = found.masks[:, kept.index].cpu().numpy()
        if hasattr(task, "methods"):  # a trained network has probabilities, no saliency
            kept.maps[method] = _to_bytes(found.maps[kept.index])

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather and write."""
        self._pack()
        own = KeptSlices(self._structures, [unpack_slices(one).slices[0] for one in self._packed.values()], 0)
        content = torch.frombuffer(bytearray(pack_slices(own)), dtype=torch.uint8).to(pl_module.device)
        sizes = batch_sizes(content)
        parts = torch.split(all_gather_with_grad(content, sizes).cpu(), sizes)
        if rank() == 0:
            kept = merge_slices([unpack_slices(part.numpy().tobytes()) for part in parts], self._order)
            write_slices(kept, Path(trainer.default_root_dir))
        self._packed = {}

    def _pack(self) -> None:
        if self._current is not None:
            kept = KeptSlices(self._structures, [self._current], 1)
            self._packed[self._current.case_id] = pack_slices(kept)
            self._current = None


def _slice_of(case: AssembledCase, structures: dict[str, tuple[int, ...]]) -> KeptSlice:
    assert case.reference is not None, case.case_id
    index = largest_slice(case.reference, structures)
    spacing = None if case.spacing_mm is None else case.spacing_mm[1:]
    return KeptSlice(
        case_id=case.case_id,
        index=index,
        depth=len(case.reference),
        spacing_mm=None if spacing is None or not np.isfinite(spacing).all() else (spacing[0], spacing[1]),
        image=_to_bytes(case.images[index]),
        reference=case.reference[index].cpu().numpy().astype(np.uint8),
    )


def _to_bytes(values: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    found: np.ndarray[Any, np.dtype[np.uint8]] = (values.float().clamp(0, 1) * 255).round().byte().cpu().numpy()
    return found
