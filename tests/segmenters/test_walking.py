"""The random walker's equations against scikit-image's, where its own solvers hold and where they do not."""

import numpy as np
import pytest
from skimage.segmentation import random_walker

from medzeroseg.segmenters.walking import first_reach

SEEDS = tuple[np.ndarray, np.ndarray]


def seeds(shape: tuple[int, ...]) -> SEEDS:
    """A small square inside, the frame outside."""
    inside, outside = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
    outside[1:-1, 1:-1] = False
    inside[shape[0] // 3 : shape[0] // 2 + 1, shape[1] // 3 : shape[1] // 2] = True
    return inside, outside


def by_scikit_image(grey: np.ndarray, inside: np.ndarray, outside: np.ndarray, beta: float, mode: str) -> np.ndarray:
    labels = inside + 2 * outside.astype(np.int8)
    walked: np.ndarray = random_walker(grey, labels, beta=beta, mode=mode, tol=1e-5, return_full_prob=True)[0]
    return walked


def plateaus(shape: tuple[int, ...]) -> np.ndarray:
    """Blocks of a few pixels, each of one of two greys: cut off from each other but for the least weight."""
    blocks = np.random.default_rng(0).integers(0, 2, (-(-shape[0] // 4), -(-shape[1] // 4)))
    return np.kron(blocks, np.ones((4, 4)))[: shape[0], : shape[1]].astype(np.float32)


@pytest.mark.parametrize("shape", [(24, 24), (20, 33), (33, 20), (5, 40)])
def test_equals_scikit_images_direct_solution(shape: tuple[int, int]) -> None:
    grey = np.random.default_rng(0).random(shape).astype(np.float32)
    found = first_reach(grey, *seeds(shape), 130.0)
    np.testing.assert_allclose(found, by_scikit_image(grey, *seeds(shape), 130.0, "bf"), atol=1e-6)


def test_nearly_enclosed_places_are_as_exact_where_conjugate_gradients_are_not() -> None:
    grey = plateaus((48, 48))
    found = first_reach(grey, *seeds(grey.shape), 300.0)
    exact, iterated = (by_scikit_image(grey, *seeds(grey.shape), 300.0, mode) for mode in ("bf", "cg_j"))
    np.testing.assert_allclose(found, exact, atol=1e-5)
    assert np.abs(iterated - exact).max() > 0.1  # else there is nothing to be exact about


def test_halfway_along_a_line_is_one_half() -> None:
    line = np.zeros((1, 9), dtype=np.float32)
    inside, outside = line > 1, line > 1
    inside[0, 0], outside[0, 8] = True, True
    np.testing.assert_allclose(first_reach(line, inside, outside, 300.0)[0], np.linspace(1, 0, 9), atol=1e-12)
