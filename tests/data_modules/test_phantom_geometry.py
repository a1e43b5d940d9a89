"""Shapes of the phantom and the random streams that draw them."""

import numpy as np
import pytest

from data_modules.phantom.geometry import Blob, coverage, make_grid, random_blob
from data_modules.phantom.randomness import Streams


def test_coverage_of_an_ellipse_has_its_area():
    grid = make_grid(128)
    cover = coverage(grid, Blob(0.1, -0.2, 0.5, 0.25, tilt_rad=0.7))
    assert cover.sum() * grid.pixel**2 == pytest.approx(np.pi * 0.5 * 0.25, rel=0.005)
    assert cover.min() == 0
    assert cover.max() == 1


def test_coverage_of_a_deformed_blob_agrees_with_the_boundary_equation():
    grid = make_grid(256)
    blob = random_blob(np.random.default_rng(3), 0.05, 0.1, 0.45, 0.3, tilt_rad=0.4, wobble=0.1)
    dx, dy = grid.x - blob.x, grid.y - blob.y
    across = (dx * np.cos(blob.tilt_rad) + dy * np.sin(blob.tilt_rad)) / blob.rx
    down = (dy * np.cos(blob.tilt_rad) - dx * np.sin(blob.tilt_rad)) / blob.ry
    angle = np.arctan2(down, across)
    boundary = 1 + sum((a * np.exp(-1j * (k + 2) * angle)).real for k, a in enumerate(blob.wobble))
    inside = np.hypot(across, down) < boundary
    wrong = (coverage(grid, blob) > 0.5) != inside
    assert inside.sum() > 1000
    assert wrong.sum() < 0.004 * inside.sum()  # pixels that the boundary cuts


@pytest.mark.parametrize("centre", [(2.5, 0.0), (-1.02, 0.9)])
def test_coverage_beyond_the_border_is_cut(centre: tuple[float, float]):
    cover = coverage(make_grid(64), Blob(*centre, 0.2, 0.2))
    assert cover.shape == (64, 64)
    assert cover.sum() < 200


def test_streams_are_independent_of_each_other_and_repeatable():
    streams = Streams((1, 2))
    first = streams("liver").random(4)
    np.testing.assert_array_equal(first, Streams((1, 2))("liver").random(4))
    assert not np.array_equal(first, streams("spleen").random(4))
    assert not np.array_equal(first, Streams((12,))("liver").random(4))
