"""Calibration, scale, overlaps, assembly: the parts between saliency and masks."""

from typing import Any

import pytest
import torch

from medzeroseg.zero_shot import (
    MeanOfPrompts,
    Presence,
    PresenceOfPrompts,
    Raw,
    SoftmaxOverPrompts,
    highest_confidence,
    resolve_overlaps,
    scale_over_case,
)
from medzeroseg.zero_shot.assembly import CaseAssembler, SliceResult


def maps(prompts: int = 3, slices: int = 4, seed: int = 0) -> torch.Tensor:
    return torch.randn(slices, prompts, 5, 6, generator=torch.Generator().manual_seed(seed))


def test_what_all_prompts_have_in_common_is_taken_away() -> None:
    common = torch.randn(4, 1, 5, 6)
    own = maps()
    own -= own.mean(dim=1, keepdim=True)
    torch.testing.assert_close(MeanOfPrompts()(own + common, 2), own[:, :2], atol=1e-5, rtol=1e-5)


def test_a_prompt_without_evidence_is_not_the_negation_of_the_others() -> None:
    raw = maps().relu()
    raw[:, 0] = 0  # nothing anywhere
    raw[2, 1] = 0  # nothing on one slice
    found = MeanOfPrompts()(raw, 3)
    assert not scale_over_case(found)[:, 0].any()
    assert not scale_over_case(found)[2, 1].any()
    assert scale_over_case(found)[:2, 1].any()
    torch.testing.assert_close(found[:2, 1:], (raw - raw.mean(dim=1, keepdim=True))[:2, 1:])


def test_softmax_is_a_probability_among_the_prompts() -> None:
    found = SoftmaxOverPrompts(0.5)(maps(), 3)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(4, 5, 6))
    torch.testing.assert_close(found, torch.softmax(maps() / 0.5, dim=1))
    assert SoftmaxOverPrompts()(maps(), 2).shape == (4, 2, 5, 6)


@pytest.mark.parametrize("calibration", [Raw(), MeanOfPrompts(), SoftmaxOverPrompts()])
def test_a_lone_prompt_keeps_its_map(calibration: Raw) -> None:
    torch.testing.assert_close(calibration(maps(1), 1), maps(1))


def test_presence_is_dark_where_nothing_is_there_and_where_another_prompt_is() -> None:
    logits = torch.tensor([[[[4.0, -4.0, 3.0]], [[-4.0, -5.0, 6.0]]]])  # (1, 2 prompts, 1, 3 places)
    found = PresenceOfPrompts()(logits, 1)[0, 0, 0]
    assert found[0] > 0.9
    assert found[1] < 0.1  # the softmax alone would give 0.73
    assert found[2] < 0.1  # the sigmoid alone would give 0.95
    torch.testing.assert_close(PresenceOfPrompts()(logits[:, :1], 1), logits[:, :1].sigmoid())
    torch.testing.assert_close(Presence()(logits, 1), logits[:, :1].sigmoid())


def test_in_projections_prompts_may_share_a_place() -> None:
    logits = torch.tensor([[[[4.0]], [[5.0]]]])  # one place of two structures
    apart, together = PresenceOfPrompts(), PresenceOfPrompts(in_projections=False)
    assert apart(logits, 2, projection=True)[0, 0, 0, 0] < 0.5
    torch.testing.assert_close(together(logits, 2, projection=True), logits.sigmoid())
    assert torch.equal(together(logits, 2), apart(logits, 2))


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature"):
        SoftmaxOverPrompts(0)


def test_one_scale_serves_all_slices_of_a_case() -> None:
    dark = maps()
    dark[1] = dark[1] / 100 - 5  # a slice in which nothing shines
    found = scale_over_case(dark)
    assert (float(found.min()), float(found.max())) == (0, 1)
    assert float(found[1].max()) < 0.2
    for prompt in range(3):
        order = dark[:, prompt].flatten().argsort()
        assert (found[:, prompt].flatten()[order].diff() >= 0).all()


def test_a_constant_map_prefers_no_place() -> None:
    assert not scale_over_case(torch.full((2, 1, 3, 3), 0.7)).any()


def test_overlap_goes_to_the_surer_structure() -> None:
    masks = torch.tensor([[[True, True, False]], [[False, True, True]]])
    confidence = torch.tensor([[[0.9, 0.4, 0.9]], [[0.1, 0.6, 0.2]]])
    labels, overlapping = resolve_overlaps(masks, confidence)
    assert labels.tolist() == [[1, 2, 2]]
    assert labels.dtype == torch.uint8
    assert overlapping == 1


def test_highest_confidence_is_that_within_the_own_mask() -> None:
    masks = torch.tensor([[[True, True, False]], [[False, True, True]], [[False, False, False]]])
    confidence = torch.tensor([[[0.3, 0.4, 0.9]], [[0.7, 0.0, 0.0]], [[0.2, 0.2, 0.2]]]).half()
    found = highest_confidence(masks, confidence)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx([0.4, 1.0, 1.0], abs=1e-3)  # 1 where there is nothing to divide by


def test_nothing_found_is_an_empty_label_map() -> None:
    labels, overlapping = resolve_overlaps(torch.zeros(2, 3, 3).bool(), torch.rand(2, 3, 3))
    assert not labels.any()
    assert overlapping == 0


def test_more_structures_than_a_label_map_holds_are_refused() -> None:
    with pytest.raises(ValueError, match="254"):
        resolve_overlaps(torch.zeros(255, 1, 1).bool(), torch.zeros(255, 1, 1))


def batch(*places: tuple[str, int, int]) -> dict[str, Any]:
    ids, indices, counts = zip(*places, strict=True)
    return {"case_id": list(ids), "slice_index": torch.tensor(indices), "slice_count": torch.tensor(counts)}


def results(*places: tuple[str, int, int]) -> list[SliceResult]:
    return [
        SliceResult({"m": torch.full((1, 2, 2), float(n))}, torch.zeros(3, 3), torch.zeros(3, 3, dtype=torch.uint8))
        for _, n, _ in places
    ]


def test_cases_come_out_when_their_last_slice_is_there_in_order() -> None:
    assembler = CaseAssembler()
    first = [("a", 1, 3), ("b", 0, 1), ("a", 0, 3)]
    assert [case.case_id for case in assembler.add(batch(*first), results(*first))] == ["b"]
    again = [("b", 0, 1), ("a", 0, 3), ("a", 2, 3)]  # a padded sampler brings some twice
    [case] = assembler.add(batch(*again), results(*again))
    assert case.case_id == "a"
    assert case.maps["m"][:, 0, 0, 0].tolist() == [0, 1, 2]
    assembler.require_nothing_left()


def test_a_case_keeps_its_spacing() -> None:
    place = ("a", 0, 1)
    spaced = batch(place) | {"spacing_mm": torch.tensor([[5.0, 1.5, 1.25]])}
    [case] = CaseAssembler().add(spaced, results(place))
    assert case.spacing_mm == (5.0, 1.5, 1.25)
    [unspaced] = CaseAssembler().add(batch(place), results(place))
    assert unspaced.spacing_mm is None


def test_a_case_that_lacks_slices_is_not_scored_in_silence() -> None:
    assembler = CaseAssembler()
    places = [("a", 1, 3)]
    assert not list(assembler.add(batch(*places), results(*places)))
    with pytest.raises(RuntimeError, match="a with 1 slice"):
        assembler.require_nothing_left()
