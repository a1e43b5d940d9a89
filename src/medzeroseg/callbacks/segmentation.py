"""Evaluator of segmentation: an nn.Module that the task holds, and a callback that Lightning calls."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from medzeroseg.metrics.segmentation import SCORES, CaseScores, score_case
from medzeroseg.metrics.surface import DEFAULT_TOLERANCE
from medzeroseg.tables.segmentation_records import CaseScore
from medzeroseg.zero_shot.assembly import AssembledCase
from medzeroseg.zero_shot.method import CaseSegmentation

UNKNOWN = 255
"""Label id of voxels that nobody has outlined; they count neither way."""


class SegmentationEvaluator(nn.Module, Callback):
    """Scores cases of several methods and logs the means, in percent.

    It is a submodule of the task, so that Lightning moves its metrics, and a callback of it. Logged keys:
    `test/<method>/dsc`, `iou`, `auc`, `pointing`, `nsd`: means over cases of the mean over structures; `hd95` likewise,
    in mm, or in pixels where the spacing of all cases is lost. Every score of every case stays at hand for the tables
    (`scores`). The metrics synchronise over the ranks when they compute.

    Args:
        surfaces: Whether to measure HD95 and NSD, the slowest of the scores.
        nsd_tolerance: Tolerance of the NSD in mm (in pixels where the spacing is lost).

    Raises:
        ValueError: `nsd_tolerance` is negative.
    """

    def __init__(self, surfaces: bool = True, nsd_tolerance: float = DEFAULT_TOLERANCE) -> None:
        super().__init__()
        if not nsd_tolerance >= 0:
            raise ValueError(f"nsd_tolerance must be 0 or more, got {nsd_tolerance}")
        self.surfaces = surfaces
        self.nsd_tolerance = nsd_tolerance
        self.metrics = nn.ModuleDict()
        self.structures: list[str] = []
        self.seconds: dict[str, float] = {}
        self._positions: dict[str, int] = {}
        self._rows: dict[str, Tensor] = {}

    def begin(self, structures: Sequence[str], methods: Sequence[str], case_ids: Sequence[str]) -> None:
        """Forget what was; called by the task before its first case.

        Args:
            structures: The structures, in the order in which they are scored.
            methods: Keys of the methods.
            case_ids: The split's cases, in its order.
        """
        self.structures = list(structures)
        self.metrics = nn.ModuleDict({name: CaseScores() for name in methods})
        self.seconds = dict.fromkeys(methods, 0.0)
        self._positions = {case_id: n for n, case_id in enumerate(case_ids)}

    @contextmanager
    def timed(self, *methods: str) -> Iterator[None]:
        """Count the wall-clock of a block as that of each of the methods."""
        started = _now()
        yield
        seconds = _now() - started
        for method in methods:
            self.seconds[method] += seconds

    def score(
        self, method: str, case: AssembledCase, found: CaseSegmentation, parts: Mapping[str, Sequence[int]]
    ) -> None:
        """Score a case, structure by structure: maps at full size for all of them would fill the memory.

        Args:
            method: Key of the method.
            case: The case with its reference.
            found: What was segmented.
            parts: Structure -> the label ids whose union it is.
        """
        reference = case.reference
        assert reference is not None, case.case_id
        valid = reference != UNKNOWN
        scores = []
        for n, ids in enumerate(parts.values()):
            own = torch.isin(reference, torch.tensor(list(ids), dtype=reference.dtype, device=reference.device))
            maps = found.native_maps(n)[None]
            scores.append(
                score_case(
                    found.masks[n : n + 1],
                    maps,
                    own[None],
                    valid,
                    spacing_mm=case.spacing_mm,
                    surfaces=self.surfaces,
                    tolerance=self.nsd_tolerance,
                )
            )
        metric = self.metrics[method]
        assert isinstance(metric, CaseScores)
        metric.update(self._positions[case.case_id], torch.cat(scores))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gather the scores and log their means."""
        for name, metric in self.metrics.items():
            assert isinstance(metric, CaseScores)
            self._rows[name] = metric.compute()
            means = mean_scores(self._rows[name])
            # Every rank holds the same synchronised values: no second reduction.
            pl_module.log_dict({f"test/{name}/{key}": value for key, value in means.items()}, rank_zero_only=False)
            metric.reset()

    def unscored(self) -> list[str]:
        """The split's cases that no rank has scored with every method, after a test."""
        scored = [set(self._rows[name][:, 0].tolist()) for name in self.metrics]
        return [case_id for case_id, n in self._positions.items() if any(n not in found for found in scored)]

    def scores(self, method: str) -> list[CaseScore]:
        """Every score of a method, by case and structure, after a test."""
        case_ids = {n: case_id for case_id, n in self._positions.items()}
        scores = []
        for case, label, *values in self._rows[method].tolist():
            of = dict(zip(SCORES, values, strict=True))
            sizes = {name: int(of.pop(name)) for name in ("reference_voxels", "predicted_voxels")}
            unit = "mm" if of.pop("in_mm") else "px"
            scores.append(CaseScore(method, case_ids[int(case)], self.structures[int(label)], **of, **sizes, unit=unit))
        return scores


def mean_scores(rows: Tensor) -> dict[str, float]:
    """Means over cases of the mean over structures, in percent but for `hd95`.

    Args:
        rows: (N, 2 + len(SCORES)), as `CaseScores.compute` returns them; what is NaN is left out.

    Returns:
        `dsc`, `iou`, `auc`, `pointing`, `nsd`, `hd95`; one that is defined nowhere is left out, and the last two
        where some cases are in mm and some in pixels.
    """
    means = {}
    in_mm = rows[:, 2 + SCORES.index("in_mm")]
    distances = ("nsd", "hd95") if len(set(in_mm.tolist())) == 1 else ()
    for name in ("dsc", "iou", "auc", "pointing", *distances):
        column = rows[:, 2 + SCORES.index(name)]
        of_cases = [column[rows[:, 0] == case].nanmean() for case in sorted(set(rows[:, 0].tolist()))]
        mean = torch.stack(of_cases).nanmean() if of_cases else torch.tensor(torch.nan)
        if not torch.isnan(mean):
            means[name] = float(mean) if name == "hd95" else 100 * float(mean)
    return means


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
