"""Paired tests against hand-computed cases and scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from medzeroseg.errors import ConfigurationError
from medzeroseg.tables.paired_tests import paired_test, same_cases, stars


def test_three_cases_computed_by_hand() -> None:
    # differences 1, 2, 3: mean 2, sd 1, t = 2 sqrt(3) with 2 degrees of freedom, whose two-tailed p is
    # 1 - t / sqrt(t^2 + 2); of the 8 signs of the ranks two are as extreme
    test = paired_test([2, 4, 6], [1, 2, 3])
    assert (test.pairs, test.mean_difference) == (3, 2)
    assert test.t_p_value == pytest.approx(1 - math.sqrt(12 / 14), abs=1e-12)
    assert test.wilcoxon_p_value == pytest.approx(2 / 8)
    # three draws of three: all 1 or all 3 with a chance of 1/27 each, so both ends are in the 95 % interval
    assert test.interval == (1, 3)


def test_p_values_are_those_of_scipy() -> None:
    first, second = np.random.default_rng(1).normal(size=(2, 40))
    test = paired_test(first + 0.3, second)
    assert test.t_p_value == pytest.approx(stats.ttest_rel(first + 0.3, second).pvalue, rel=1e-9)
    assert test.wilcoxon_p_value == pytest.approx(stats.wilcoxon(first + 0.3, second).pvalue, rel=1e-9)


def test_interval_is_that_of_scipy_and_the_same_every_time() -> None:
    first, second = np.random.default_rng(2).normal(size=(2, 60))
    test = paired_test(first, second)
    assert test == paired_test(first, second)
    assert paired_test(first, second, seed=1).interval != test.interval
    theirs = stats.bootstrap((first - second,), np.mean, method="percentile", n_resamples=10_000, rng=3)
    assert test.interval == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)


def test_a_case_that_lacks_a_score_is_left_out() -> None:
    whole = paired_test([1, 5, 2], [0, 1, 3])
    assert paired_test([1, math.nan, 5, 2, 9], [0, 1, 1, 3, math.nan]) == whole


def test_differences_without_spread() -> None:
    alike = paired_test([1, 2, 3], [1, 2, 3])
    assert (alike.t_p_value, alike.wilcoxon_p_value, alike.interval) == (1, 1, (0, 0))
    assert paired_test([2, 3, 4], [1, 2, 3]).t_p_value == 0


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_pairs_have_no_p(count: int) -> None:
    test = paired_test([1.0] * count, [2.0] * count)
    assert test.pairs == count
    assert math.isnan(test.t_p_value)
    assert math.isnan(test.wilcoxon_p_value)


def test_stars() -> None:
    assert [stars(p) for p in (0.0009, 0.001, 0.009, 0.01, 0.049, 0.05, math.nan)] == [
        "***",
        "**",
        "**",
        "*",
        "*",
        "",
        "",
    ]


def test_cases_are_put_in_one_order() -> None:
    assert same_cases({"b": 2, "a": 1}, {"a": 3, "b": 4}, ("x", "y")) == ([1, 2], [3, 4])


def test_different_cases_are_named() -> None:
    with pytest.raises(ConfigurationError, match="ours lacks patient_7"):
        same_cases({"a": 1}, {"a": 1, "patient_7": 2}, ("ours", "full"))
    with pytest.raises(ConfigurationError, match="and 3 more"):
        same_cases({str(n): 0 for n in range(8)}, {}, ("ours", "full"))
