"""Statistics of the tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest


@dataclass(frozen=True)
class McNemar:
    """Exact paired test of two methods that were right or wrong on the same cases.

    Attributes:
        only_first: Cases that only the first method got right.
        only_second: Cases that only the second got right.
        p_value: Two-sided exact binomial p of those discordant cases under equal odds.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Exact McNemar test (McNemar, Psychometrika 1947; exact form by the binomial distribution).

    Args:
        first: Whether the first method was right, case by case.
        second: The same for the second method on the same cases in the same order.

    Returns:
        The discordant counts and the p-value; 1.0 where no case is discordant.

    Raises:
        ValueError: The lengths differ.
    """
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    discordant = only_first + only_second
    p_value = 1.0 if discordant == 0 else float(binomtest(only_first, discordant, 0.5).pvalue)
    return McNemar(only_first, only_second, p_value)
