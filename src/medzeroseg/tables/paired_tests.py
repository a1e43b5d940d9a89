"""Paired statistics of two methods' scores on the same cases."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy import stats

from medzeroseg.errors import ConfigurationError

_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


@dataclass(frozen=True)
class PairedTest:
    """How two methods differ on the same cases.

    Attributes:
        pairs: Cases for which both have a score.
        mean_difference: Mean of first minus second; NaN without a pair.
        t_p_value: Of the two-tailed paired t-test; NaN with fewer than two pairs.
        wilcoxon_p_value: Of the two-sided Wilcoxon signed-rank test; NaN likewise.
        interval: Bootstrap percentile interval of the mean difference, 95 %; NaN likewise.
    """

    pairs: int
    mean_difference: float
    t_p_value: float
    wilcoxon_p_value: float
    interval: tuple[float, float]


def paired_test(
    first: Sequence[float], second: Sequence[float], *, seed: int = 0, resamples: int = 10_000
) -> PairedTest:
    """Compare two methods on the same cases in the same order.

    Where all differences are 0 the p-values are 1. The cases are resampled as pairs, with a generator of the given
    seed, so that the interval is the same in every run.

    Args:
        first: Scores of the first method; NaN where it has none.
        second: Scores of the second. A case that lacks either is left out.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.

    Raises:
        ValueError: The lengths differ.
    """
    differences = np.array([a - b for a, b in zip(first, second, strict=True)], dtype=np.float64)
    differences = differences[~np.isnan(differences)]
    count = len(differences)
    mean = float(differences.mean()) if count else math.nan
    if count < 2:
        return PairedTest(count, mean, math.nan, math.nan, (math.nan, math.nan))
    if (differences == differences[0]).all():  # no spread: the t statistic is 0 / 0 or infinite
        t_p = 1.0 if mean == 0 else 0.0
    else:
        t_p = float(stats.ttest_1samp(differences, 0.0).pvalue)
    wilcoxon_p = float(stats.wilcoxon(differences).pvalue) if differences.any() else 1.0
    generator = np.random.default_rng(seed)
    # in parts, which bound the memory
    parts = np.array_split(np.arange(resamples), max(1, resamples * count // 2**22))
    means = np.concatenate(
        [differences[generator.integers(count, size=(len(part), count))].mean(axis=1) for part in parts]
    )
    low, high = np.percentile(means, (2.5, 97.5))
    return PairedTest(count, mean, t_p, wilcoxon_p, (float(low), float(high)))


def same_cases(
    first: Mapping[str, float], second: Mapping[str, float], names: tuple[str, str]
) -> tuple[list[float], list[float]]:
    """Two methods' scores in one order of the cases.

    Args:
        first: Case -> score; NaN where it has none.
        second: The other's.
        names: Of the two, for the message.

    Returns:
        The scores of both, by case.

    Raises:
        ConfigurationError: One was tested on cases that the other was not; they are named.
    """
    for own, other, (name, against) in ((first, second, names), (second, first, names[::-1])):
        missing = sorted(set(own) - set(other))
        if missing:
            raise ConfigurationError(
                f"{name} and {against} were tested on different cases, so they cannot be compared in pairs: "
                f"{against} lacks {_listed(missing)}. Test both on the same split, or keep their runs in different "
                "folders."
            )
    order = sorted(first)
    return [first[case] for case in order], [second[case] for case in order]


def require_cases_of_seeds(row: str, cases: Sequence[tuple[int, Collection[str]]]) -> None:
    """The seeds of a row must have been tested on the same cases: a mean over others would not tell the seeds apart.

    Args:
        row: For the message.
        cases: Each seed with the cases that it has a score of.

    Raises:
        ConfigurationError: A seed lacks cases that another has; they are named.
    """
    of_all = {case for _, of_seed in cases for case in of_seed}
    for seed, of_seed in cases:
        missing = sorted(of_all - set(of_seed))
        if missing:
            raise ConfigurationError(
                f"The seeds of {row} were tested on different cases, so they cannot be averaged: seed {seed} lacks "
                f"{_listed(missing)}. Test it again on the whole split, or remove its run."
            )


def stars(p_value: float) -> str:
    """`***` below 0.001, `**` below 0.01, `*` below 0.05, else nothing; nothing for NaN."""
    return next((mark for level, mark in _STARS if p_value < level), "")


def mean_or_nan(values: Sequence[float]) -> float:
    """Mean of what is not NaN; NaN where nothing is."""
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


def _listed(cases: Sequence[str]) -> str:
    return ", ".join(cases[:5]) + (f" and {len(cases) - 5} more" if len(cases) > 5 else "")
