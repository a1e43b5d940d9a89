"""The random walker's equations on a picture, solved directly."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

_LEAST_WEIGHT = 1e-10
"""Of a step: no place is cut off from all seeds."""


def first_reach(grey: NDArray[np.floating], inside: Mask, outside: Mask, beta: float) -> Values:
    """Probability that a walker from each pixel meets an inside seed before an outside one.

    A walker steps to one of its four neighbours; a step over a difference of `d` weighs `exp(-beta d^2 / (10 std))`
    plus 1e-10, as in scikit-image, with the standard deviation of the whole picture.

    The weights span ten orders of magnitude: conjugate gradients stop where the residual is small, and the
    probabilities of nearly enclosed places are then still off, beyond [0, 1] even (that is what scikit-image's warning
    of `prob_tol` says; on plateaus of two greys they were 0.66 off without one). Counted along its shorter side, the
    picture makes a symmetric matrix whose bandwidth is that side: Cholesky factors are exact to rounding, and take time
    with `long short^3`, memory with `long short^2`.

    Args:
        grey: (H, W), finite.
        inside: (H, W) bool.
        outside: (H, W) bool; disjoint from `inside`. Neither is empty.
        beta: How strongly an edge holds a walker back; over 0.

    Returns:
        (H, W) float64 in [0, 1]; 1 at inside seeds, 0 at outside ones.

    Source: Grady, "Random walks for image segmentation", IEEE TPAMI 2006, equations 4 to 10.
    """
    if grey.shape[1] > grey.shape[0]:
        return first_reach(grey.T, inside.T, outside.T, beta).T
    short = grey.shape[1]
    values = grey.astype(np.float64)
    spread = values.std()
    strength = beta / (10 * spread) if spread > 0 else 0.0
    seeds = inside | outside
    known = inside.astype(np.float64)
    own = np.where(seeds, 1.0, 0.0)
    right_side = known.copy()
    matrix = np.zeros((short + 1, values.size))  # the lower diagonals, one a row
    for axis, distance in ((1, 1), (0, short)):
        first, second = (tuple(part if n == axis else slice(None) for n in (0, 1)) for part in (_BUT_LAST, _BUT_FIRST))
        weights = np.exp(-strength * np.diff(values, axis=axis) ** 2) + _LEAST_WEIGHT
        for here, there in ((first, second), (second, first)):
            free = np.where(seeds[here], 0.0, weights)
            own[here] += free
            right_side[here] += free * known[there]
        band = np.zeros_like(values)
        band[first] = np.where(seeds[first] | seeds[second], 0.0, weights)
        matrix[distance] -= band.ravel()
    matrix[0] = own.ravel()
    solution: Values = solveh_banded(
        matrix, right_side.ravel(), lower=True, overwrite_ab=True, overwrite_b=True, check_finite=False
    )
    return solution.reshape(values.shape).clip(0, 1)


_BUT_LAST, _BUT_FIRST = slice(None, -1), slice(1, None)
