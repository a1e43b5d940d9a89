"""The evaluator's scores of a case, by name and unit."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from medzeroseg.callbacks import SegmentationEvaluator
from medzeroseg.callbacks.segmentation import mean_scores
from medzeroseg.metrics import CaseScores, surface_scores
from medzeroseg.tables.segmentation_records import CaseScore
from medzeroseg.zero_shot.assembly import AssembledCase
from medzeroseg.zero_shot.method import CaseSegmentation
from tests.helpers.process_pool import run_in_processes


def scored(
    spacing_mm: tuple[float, ...] | None, evaluator: SegmentationEvaluator
) -> tuple[list[CaseScore], dict[str, float]]:
    """One volume with two structures, scored; and the means that are logged."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.randint(3, (3, 8, 8), generator=generator, dtype=torch.uint8)
    maps = torch.rand(3, 2, 8, 8, generator=generator)
    masks = maps.transpose(0, 1) > 0.5
    case = AssembledCase("a", {}, torch.zeros(3, 8, 8), reference, None, spacing_mm)
    evaluator.begin(["liver", "spleen"], ["m"], ["a"])
    evaluator.score("m", case, CaseSegmentation(masks, maps, maps), {"liver": (1,), "spleen": (2,)})
    metric = evaluator.metrics["m"]
    assert isinstance(metric, CaseScores)
    evaluator._rows["m"] = metric.compute()
    hd95, nsd = surface_scores(
        masks, torch.stack([reference == 1, reference == 2]), spacing_mm, tolerance=evaluator.nsd_tolerance
    )
    found = evaluator.scores("m")
    if evaluator.surfaces:
        assert [score.hd95 for score in found] == hd95.tolist()
        assert [score.nsd for score in found] == nsd.tolist()
    return found, mean_scores(evaluator._rows["m"])


def test_distances_are_in_mm_where_the_spacing_is_known() -> None:
    found, means = scored((2.0, 1.5, 1.5), SegmentationEvaluator(nsd_tolerance=1.0))
    assert [(score.structure, score.unit) for score in found] == [("liver", "mm"), ("spleen", "mm")]
    assert means["hd95"] == pytest.approx(sum(score.hd95 for score in found) / 2)
    assert means["nsd"] == pytest.approx(50 * sum(score.nsd for score in found))
    assert all(isinstance(score.reference_voxels, int) and score.reference_voxels > 0 for score in found)


@pytest.mark.parametrize("spacing_mm", [None, (math.nan, math.nan, math.nan)])
def test_distances_are_in_pixels_where_it_is_lost(spacing_mm: tuple[float, ...] | None) -> None:
    found, _ = scored(spacing_mm, SegmentationEvaluator())
    assert {score.unit for score in found} == {"px"}


def test_surfaces_can_be_left_out() -> None:
    found, means = scored((2.0, 1.5, 1.5), SegmentationEvaluator(surfaces=False))
    assert all(math.isnan(score.hd95) and math.isnan(score.nsd) for score in found)
    assert "hd95" not in means
    assert "dsc" in means


def _score_of_ranks(cases_of_ranks: list[list[str]]) -> list[str]:
    """Score the rank's cases of three; what the rank then misses."""
    evaluator = SegmentationEvaluator(surfaces=False)
    evaluator.begin(["liver"], ["m"], ["a", "b", "c"])
    maps = torch.rand(1, 1, 4, 4)
    for name in cases_of_ranks[torch.distributed.get_rank()]:
        case = AssembledCase(name, {}, torch.zeros(1, 4, 4), torch.ones(1, 4, 4, dtype=torch.uint8), None)
        evaluator.score("m", case, CaseSegmentation(maps > 0.5, maps, maps), {"liver": (1,)})
    task: Any = SimpleNamespace(log_dict=lambda *_, **__: None)
    evaluator.on_test_epoch_end(task, task)
    return evaluator.unscored()


@pytest.mark.parametrize(("ranks", "missing"), [([["a"], ["b", "c"]], []), ([["a", "c"], ["a"]], ["b"])])
def test_a_case_counts_as_scored_on_whatever_rank_it_was(ranks: list[list[str]], missing: list[str]) -> None:
    assert run_in_processes(_score_of_ranks, 2, ranks) == [missing, missing]


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(ValueError, match="nsd_tolerance"):
        SegmentationEvaluator(nsd_tolerance=-1)
