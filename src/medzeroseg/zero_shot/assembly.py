"""Slices back into cases: whatever batches they come in, a case is segmented and scored as a whole."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass
class SliceResult:
    """What is kept of a slice until its case is complete.

    Attributes:
        maps: Method -> (P + C, h, w) raw saliency.
        image: (H, W) float in [0, 1], windowed.
        reference: (H, W) uint8 label ids, or None.
        features: (F, h, w) dense features, or None.
    """

    maps: dict[str, Tensor]
    image: Tensor
    reference: Tensor | None
    features: Tensor | None = None


@dataclass(frozen=True)
class AssembledCase:
    """All slices of a case, in order.

    Attributes:
        case_id: Its name.
        maps: Method -> (D, P + C, h, w).
        images: (D, H, W).
        reference: (D, H, W) uint8, or None.
        features: (D, F, h, w), or None.
        spacing_mm: (dz, dy, dx), NaN where the source has lost it; None: all lost.
    """

    case_id: str
    maps: dict[str, Tensor]
    images: Tensor
    reference: Tensor | None
    features: Tensor | None
    spacing_mm: tuple[float, ...] | None = None


@dataclass
class CaseAssembler:
    """Collects slices and hands out cases as they become complete; a slice that comes twice counts once."""

    waiting: dict[str, dict[int, SliceResult]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def add(self, batch: dict[str, Any], results: Sequence[SliceResult]) -> Iterator[AssembledCase]:
        """Add the slices of a batch.

        Args:
            batch: Holds `case_id`, `slice_index`, `slice_count` and, if known, `spacing_mm` (B, 3) of each slice.
            results: One a slice.

        Yields:
            The cases that these slices complete.
        """
        places = zip(batch["case_id"], batch["slice_index"].tolist(), batch["slice_count"].tolist(), strict=True)
        spacings = batch["spacing_mm"].tolist() if "spacing_mm" in batch else [None] * len(results)
        for (case_id, index, count), spacing, result in zip(places, spacings, results, strict=True):
            if case_id in self.done:
                continue
            slices = self.waiting.setdefault(case_id, {})
            slices[index] = result
            if len(slices) == count:
                self.done.add(case_id)
                yield _assemble(case_id, [slices[n] for n in range(count)], spacing)
                del self.waiting[case_id]

    def require_nothing_left(self) -> None:
        """Refuse to score cases of which slices are missing.

        Raises:
            RuntimeError: A case is incomplete: the loader dealt its slices out to several processes, or was cut short.
        """
        if self.waiting:
            case_id, slices = next(iter(self.waiting.items()))
            raise RuntimeError(
                f"{len(self.waiting)} case(s) are incomplete, among them {case_id} with {len(slices)} slice(s): "
                "batches must bring all slices of a case to one process (data_modules.loading.CaseSampler)"
            )


def _assemble(case_id: str, slices: list[SliceResult], spacing_mm: Sequence[float] | None) -> AssembledCase:
    references = [one.reference for one in slices]
    features = [one.features for one in slices]
    return AssembledCase(
        case_id,
        {name: torch.stack([one.maps[name] for one in slices]) for name in slices[0].maps},
        torch.stack([one.image for one in slices]),
        None if any(r is None for r in references) else torch.stack([r for r in references if r is not None]),
        None if any(f is None for f in features) else torch.stack([f for f in features if f is not None]),
        None if spacing_mm is None else tuple(spacing_mm),
    )
