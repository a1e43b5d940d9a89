"""Correlation between prompts against numpy's, and the scores' contest with nonsense."""

import numpy as np
import pytest
import torch

from medzeroseg.metrics.text_sensitivity import TextSensitivityMetric, prompt_correlation


def test_correlation_is_pearsons_over_all_pairs() -> None:
    maps = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    expected = []
    for image in maps.numpy():
        table = np.corrcoef(image.reshape(4, -1))
        expected.append(np.mean([table[i, j] for i in range(4) for j in range(i)]))
    np.testing.assert_allclose(prompt_correlation(maps).numpy(), expected, atol=1e-6)


def test_a_map_that_ignores_its_text_has_one_and_its_negative_minus_one() -> None:
    one = torch.rand(2, 1, 4, 4)
    assert prompt_correlation(one.expand(-1, 3, -1, -1)).tolist() == pytest.approx([1, 1])
    assert prompt_correlation(torch.cat([one, 3 - 2 * one], dim=1)).tolist() == pytest.approx([-1, -1])


def test_a_constant_map_is_left_out() -> None:
    maps = torch.rand(1, 3, 4, 4)
    maps[:, 1] = 0.1
    torch.testing.assert_close(prompt_correlation(maps), prompt_correlation(maps[:, [0, 2]]))
    assert prompt_correlation(maps[:, :2]).isnan().all()
    with pytest.raises(ValueError, match="at least 2"):
        prompt_correlation(maps[:, :1])


def test_batches_add_up() -> None:
    maps = torch.rand(5, 2, 4, 4)
    whole, parts = TextSensitivityMetric(2), TextSensitivityMetric(2)
    whole.update(1, maps)
    parts.update(1, maps[:2])
    parts.update(1, maps[2:])
    found = parts.compute()
    torch.testing.assert_close(found["correlation"][1], whole.compute()["correlation"][1])
    assert found["slices"].tolist() == [0, 5]
    assert found["correlation"][0].isnan()


def test_only_structures_that_are_there_contest_with_nonsense() -> None:
    metric = TextSensitivityMetric(1)
    scores = torch.tensor([[0.9, 0.1], [0.3, 0.8]])
    present = torch.tensor([[True, False], [True, True]])
    metric.add_scores(scores, present, torch.tensor([[0.5, 0.95], [0.5, 0.2]]), torch.tensor([[0.9], [0.1]]))
    found = metric.compute()
    # nonsense: 0.9 beats 0.5, 0.3 beats 0.2, 0.8 beats both; foreign: 0.9 ties with 0.9, the others beat 0.1
    assert found["above"].tolist() == pytest.approx([4 / 6, 2 / 3, 1])
    # the first image lacks one structure, with which the other contests; the second lacks none
    assert found["pairs"].tolist() == [6, 3, 1]
    assert found["score"].tolist() == pytest.approx([(0.9 + 0.3 + 0.8) / 3, (0.9 + 0.3 + 0.8) / 3, 0.9])
    assert found["other_score"].tolist() == pytest.approx([(1.45 + 0.7 + 0.7) / 6, 1.1 / 3, 0.1])


def test_nothing_to_contest_with_is_nan_not_a_win() -> None:
    metric = TextSensitivityMetric(1)
    none = torch.zeros(1, 0)
    metric.add_scores(torch.tensor([[0.9]]), torch.tensor([[True]]), torch.tensor([[0.1]]), none)
    assert metric.compute()["above"].isnan().tolist() == [False, True, True]
