"""Overlap, ROC and pointing game against hand-made cases and independent implementations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from medzeroseg.distributed import rank, world_size
from medzeroseg.metrics.segmentation import (
    SCORES,
    CaseScores,
    overlap_scores,
    pixel_auc,
    pointing_accuracy,
    score_case,
)
from medzeroseg.metrics.surface import surface_scores
from tests.helpers.process_pool import run_in_processes


def test_overlap_of_masks_counted_by_hand() -> None:
    prediction = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]).bool()
    reference = torch.tensor([[0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]).bool()
    dsc, iou = overlap_scores(prediction, reference)
    torch.testing.assert_close(dsc, torch.tensor([0.5, 1, math.nan, 0, 0]).double(), equal_nan=True)
    torch.testing.assert_close(iou, torch.tensor([1 / 3, 1, math.nan, 0, 0]).double(), equal_nan=True)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=60))
def test_auc_is_the_mann_whitney_statistic_ties_included(pixels: list[tuple[int, bool]]) -> None:
    values, inside = (list(column) for column in zip(*pixels, strict=True))
    found = pixel_auc(torch.tensor([values]).float(), torch.tensor([inside]))
    if len(set(inside)) == 1:
        assert torch.isnan(found).all()
    else:
        parts = [[value for value, own in pixels if own is wanted] for wanted in (True, False)]
        expected = mannwhitneyu(*parts).statistic / (len(parts[0]) * len(parts[1]))
        assert found.item() == pytest.approx(expected, abs=1e-12)


def test_auc_of_a_map_and_of_its_negation_add_up_to_one() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 5, 8, 8, generator=generator)
    reference = torch.rand(3, 5, 8, 8, generator=generator) > 0.7
    torch.testing.assert_close(pixel_auc(maps, reference) + pixel_auc(-maps, reference), torch.ones(3).double())


def test_auc_refuses_a_map_with_nan() -> None:
    with pytest.raises(ValueError, match="finite"):
        pixel_auc(torch.tensor([[0.0, math.nan]]), torch.tensor([[True, False]]))


def test_pointing_counts_only_the_slices_that_hold_the_structure() -> None:
    maps, reference = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.bool)
    reference[0, :2, 1, 1] = True  # in two of three slices
    maps[0, 0, 1, 1] = maps[0, 1, 2, 2] = maps[0, 2, 1, 1] = 1
    torch.testing.assert_close(
        pointing_accuracy(maps, reference), torch.tensor([0.5, math.nan]).double(), equal_nan=True
    )


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        overlap_scores(torch.ones(1, 2).bool(), torch.ones(1, 3).bool())


def _case(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(2, 3, 6, 6, generator=generator)
    return score_case(maps > 0.5, maps, torch.rand(2, 3, 6, 6, generator=generator) > 0.6)


def test_voxels_of_unknown_label_count_neither_way() -> None:
    generator = torch.Generator().manual_seed(3)
    maps, valid = torch.rand(2, 3, 6, 6, generator=generator), torch.rand(3, 6, 6, generator=generator) > 0.3
    reference = (torch.rand(2, 3, 6, 6, generator=generator) > 0.6) & valid
    found = score_case(maps > 0.5, maps, reference, valid)
    changed = torch.where(valid, maps, 1 - maps)  # whatever is found there
    torch.testing.assert_close(score_case(changed > 0.5, changed, reference, valid), found)
    dsc, _ = overlap_scores((maps > 0.5)[:, valid], reference[:, valid])
    torch.testing.assert_close(found[:, 0], dsc)
    torch.testing.assert_close(found[:, 2], pixel_auc(maps[:, valid], reference[:, valid]))


def test_surfaces_are_measured_in_mm_without_what_is_unknown() -> None:
    generator = torch.Generator().manual_seed(4)
    maps, valid = torch.rand(1, 3, 6, 6, generator=generator), torch.rand(3, 6, 6, generator=generator) > 0.2
    reference, spacing = torch.rand(1, 3, 6, 6, generator=generator) > 0.6, (4.0, 1.0, 1.0)
    found = score_case(maps > 0.5, maps, reference, valid, spacing_mm=spacing, tolerance=1.0)
    hd95, nsd = surface_scores((maps > 0.5) & valid, reference & valid, spacing, tolerance=1.0)
    columns = [SCORES.index(name) for name in ("hd95", "nsd", "in_mm")]
    assert found[0, columns].tolist() == [hd95.item(), nsd.item(), 1.0]
    lost = score_case(maps > 0.5, maps, reference, valid, spacing_mm=(4.0, math.nan, 1.0), tolerance=1.0)
    assert lost[0, columns[2]] == 0
    assert score_case(maps > 0.5, maps, reference, surfaces=False)[0, columns[:2]].isnan().all()


def test_cases_come_out_in_order_and_once() -> None:
    metric = CaseScores()
    for index in (2, 0, 1, 2):
        metric.update(index, _case(index))
    rows = metric.compute()
    assert rows[:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert rows[:, 1].tolist() == [0, 1] * 3
    torch.testing.assert_close(rows[2:4, 2:], _case(1))
    assert rows.shape[1] == 2 + len(SCORES)


def test_no_case_gives_no_row() -> None:
    assert len(CaseScores().compute()) == 0


def _rows_of_a_rank() -> torch.Tensor:
    metric = CaseScores()
    for index in range(rank(), 3, world_size()):
        metric.update(index, _case(index))
    return metric.compute()


def test_two_ranks_hold_the_rows_of_all_cases() -> None:
    alone = CaseScores()
    for index in range(3):
        alone.update(index, _case(index))
    for rows in run_in_processes(_rows_of_a_rank, 2):
        torch.testing.assert_close(rows, alone.compute())
