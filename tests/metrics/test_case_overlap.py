"""DSC from slices is the DSC of the assembled volumes, on one rank and on two."""

import torch
from torch import Tensor

from medzeroseg.metrics.case_overlap import CaseDice
from medzeroseg.metrics.segmentation import overlap_scores
from tests.helpers.process_pool import run_in_processes

PARTS = {"lungs": (1, 2), "infection": (2,), "heart": (7,)}
CASES = ["a", "b", "c"]


def _volumes() -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.tensor([0, 1, 2, 7, 255], dtype=torch.uint8)
    volumes = {}
    for case_id, slices in zip(CASES, (3, 1, 4), strict=True):
        drawn = torch.randint(0, 5, (2, slices, 8, 9), generator=generator)
        prediction, reference = ids[drawn[0].clamp(max=3)], ids[drawn[1]]
        volumes[case_id] = prediction, reference
    volumes["b"][0][volumes["b"][0] == 7] = 0  # in case b neither has a heart
    volumes["b"][1][volumes["b"][1] == 7] = 0
    return volumes


def _expected() -> Tensor:
    rows = []
    for prediction, reference in _volumes().values():
        known = reference != 255
        masks = [
            torch.stack([torch.isin(volume, torch.tensor(ids)) & known for ids in PARTS.values()])
            for volume in (prediction, reference)
        ]
        rows.append(overlap_scores(*masks)[0])
    return torch.stack(rows)


def _metric(cases: list[str]) -> CaseDice:
    metric = CaseDice(CASES, PARTS)
    volumes = _volumes()
    slices = [(case, n) for case in cases for n in range(len(volumes[case][0]))]
    for case, n in reversed(slices):  # in any order
        metric.update(case, volumes[case][0][n], volumes[case][1][n])
    return metric


def test_slices_add_up_to_volumes() -> None:
    result = _metric(CASES).compute()
    torch.testing.assert_close(result, _expected(), equal_nan=True)
    assert result[1, 2].isnan()


def test_means_are_over_structures_then_over_cases() -> None:
    means = _metric(CASES).percentages()
    expected = _expected()
    torch.testing.assert_close(means["dsc"], 100 * expected.nanmean(dim=1).nanmean())
    torch.testing.assert_close(means["dsc/heart"], 100 * expected[[0, 2], 2].mean())


def _of_rank() -> Tensor:
    rank = torch.distributed.get_rank()
    return _metric(CASES[rank::2]).compute()


def test_two_ranks_give_what_one_gives() -> None:
    for result in run_in_processes(_of_rank, 2):
        torch.testing.assert_close(result, _expected(), equal_nan=True)


def test_nothing_to_find_and_nothing_found_is_a_number_that_can_be_monitored() -> None:
    metric = CaseDice(["a"], {"infection": (2,)})
    empty = torch.zeros(4, 4, dtype=torch.uint8)
    metric.update("a", empty, empty)
    assert {name: float(value) for name, value in metric.percentages().items()} == {"dsc": 100.0}
