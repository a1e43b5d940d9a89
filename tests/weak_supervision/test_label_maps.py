"""Masks of structures become label ids."""

import pytest
import torch
from torch import Tensor

from medzeroseg.weak_supervision import label_map

LUNGS = {"lungs": (1, 2), "infection": (2,)}
HEART = {"right ventricle": (1,), "myocardium": (2,), "left ventricle": (3,)}


def _row(*values: float) -> Tensor:
    return torch.tensor(values)[None, None]


def _masks(*rows: list[int]) -> Tensor:
    return torch.stack([_row(*row) for row in rows]).bool()


def test_a_structure_within_another_lies_on_top_and_does_not_leave_it() -> None:
    masks = _masks([1, 1, 1, 0, 0], [0, 1, 1, 1, 0])
    confidence = torch.stack([_row(0.9, 0.9, 0.9, 0.1, 0.1), _row(0.1, 0.2, 0.9, 0.9, 0.1)])
    found = label_map(masks, confidence, LUNGS)
    assert found.labels.tolist() == [[[1, 2, 2, 0, 0]]]
    assert found.labels.dtype == torch.uint8
    assert found.score == pytest.approx(0.9)


def test_the_order_of_structures_does_not_matter_for_what_lies_within() -> None:
    masks = _masks([0, 1, 1, 1, 0], [1, 1, 1, 0, 0])
    confidence = torch.full(masks.shape, 0.5)
    found = label_map(masks, confidence, {"infection": (2,), "lungs": (1, 2)})
    assert found.labels.tolist() == [[[1, 2, 2, 0, 0]]]


def test_the_more_confident_of_equals_wins() -> None:
    masks = _masks([1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0])
    confidence = torch.stack([_row(0.8, 0.3, 0.9, 1.0), _row(0.4, 0.8, 0.8, 1.0), _row(0.0, 0.0, 0.8, 1.0)])
    assert label_map(masks, confidence, HEART).labels.tolist() == [[[1, 2, 2, 0]]]


def test_confidence_is_relative_to_the_highest_within_the_own_mask() -> None:
    # The ventricle is nowhere as probable as the muscle around it, whose mask covers it, and keeps its core.
    masks = _masks([0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0])
    confidence = torch.stack(
        [torch.zeros(1, 1, 6), _row(0.9, 0.8, 0.6, 0.8, 0.9, 0.1), _row(0.1, 0.3, 0.5, 0.3, 0.1, 0.8)]
    )
    found = label_map(masks, confidence, HEART)
    assert found.labels.tolist() == [[[2, 2, 3, 2, 2, 0]]]
    assert found.score == pytest.approx(0.8)  # of the confidence as it is


def test_what_inner_structures_leave_of_an_outer_one_without_ids_of_its_own_is_unknown() -> None:
    parts = {"ventricles": (1, 3), "right ventricle": (1,), "left ventricle": (3,)}
    masks = _masks([1, 1, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0])
    assert label_map(masks, torch.full(masks.shape, 0.5), parts).labels.tolist() == [[[1, 3, 255, 0]]]


def test_uncertain_voxels_become_unknown_inside_and_outside() -> None:
    masks = _masks([1, 1, 0, 0])
    confidence = torch.stack([_row(0.9, 0.55, 0.45, 0.1)])
    found = label_map(masks, confidence, {"liver": (6,)}, uncertain=(0.4, 0.6))
    assert found.labels.tolist() == [[[6, 255, 255, 0]]]


def test_a_case_below_the_score_is_unknown_altogether() -> None:
    masks = _masks([1, 1, 0, 0])
    confidence = torch.stack([_row(0.6, 0.4, 0.0, 0.0)])
    parts = {"liver": (6,)}
    assert label_map(masks, confidence, parts, minimum_score=0.5).labels.tolist() == [[[6, 6, 0, 0]]]
    assert label_map(masks, confidence, parts, minimum_score=0.51).labels.tolist() == [[[255] * 4]]


def test_nothing_claimed_is_background_with_score_0() -> None:
    found = label_map(_masks([0, 0], [0, 0]), torch.rand(2, 1, 1, 2), LUNGS)
    assert found.labels.tolist() == [[[0, 0]]]
    assert found.score == 0


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="3 structures"):
        label_map(_masks([0, 0], [0, 0]), torch.rand(2, 1, 1, 2), HEART)
