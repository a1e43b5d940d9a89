"""Solids: their cuts against shapes known in closed form."""

import math

import numpy as np
import pytest

from data_modules.phantom.geometry import make_grid
from data_modules.phantom.solids import Course, Outline, Tube

GRID = make_grid(200)
AREA = GRID.pixel**2


def test_a_course_with_full_caps_is_an_ellipsoid():
    course = Course((Outline(-0.4, 0.1, 0.0, 0.3, 0.2), Outline(0.4, 0.1, 0.0, 0.3, 0.2)), 0.4, 0.4)
    heights = np.linspace(-0.5, 0.5, 201)
    areas = [float(course.cut(GRID, z).sum()) * AREA for z in heights.tolist()]
    assert np.sum(areas) * 0.005 == pytest.approx(4 / 3 * math.pi * 0.3 * 0.2 * 0.4, rel=0.02)
    for z in (0.0, 0.2, -0.3):
        expected = math.pi * 0.3 * 0.2 * (1 - (z / 0.4) ** 2)
        assert float(course.cut(GRID, z).sum()) * AREA == pytest.approx(expected, rel=0.02)
    assert course.at(0.41) is None
    assert not course.cut(GRID, -0.45).any()


def test_a_course_passes_through_its_outlines_without_overshoot():
    outlines = (Outline(0.0, 0.0, 0.1, 0.1, 0.2), Outline(0.3, 0.0, 0.1, 0.3, 0.2), Outline(0.6, 0.2, 0.1, 0.3, 0.4))
    course = Course(outlines)
    blob = course.at(0.3)
    assert blob is not None
    assert (blob.x, blob.rx, blob.ry) == pytest.approx((0.0, 0.3, 0.2))
    widths = [blob.rx for z in np.linspace(0.01, 0.59, 50).tolist() if (blob := course.at(z))]
    assert max(widths) <= 0.3 + 1e-9
    assert min(widths) >= 0.1 - 1e-9
    assert (np.diff(widths) >= -1e-9).all()


def test_a_straight_tube_is_a_capsule():
    along, across = 0.6, 0.1
    upright = Tube(((0.0, 0.0, -0.3, across), (0.0, 0.0, 0.3, across)))
    assert float(upright.cut(GRID, 0.02).sum()) * AREA == pytest.approx(math.pi * across**2, rel=0.06)
    lying = Tube(((-0.3, 0.0, 0.0, across), (0.3, 0.0, 0.0, across)))
    assert float(lying.cut(GRID, 0.0).sum()) * AREA == pytest.approx(2 * across * along + math.pi * across**2, rel=0.06)
    assert not lying.cut(GRID, 0.11).any()
    assert lying.cut(GRID, 0.11, margin=0.05).any()


def test_persons_differ_a_little():
    course = Course((Outline(-0.4, 0.1, 0.0, 0.3, 0.2), Outline(0.4, 0.1, 0.0, 0.3, 0.2)), 0.4, 0.4)
    first, second = (course.varied(np.random.default_rng(seed)) for seed in (0, 1))
    again = course.varied(np.random.default_rng(0))
    np.testing.assert_array_equal(first.cut(GRID, 0.0), again.cut(GRID, 0.0))
    one, other = first.cut(GRID, 0.0) > 0.5, second.cut(GRID, 0.0) > 0.5
    assert 0.75 < (one & other).sum() / (one | other).sum() < 0.999
    neighbours = first.cut(GRID, 0.0) > 0.5, first.cut(GRID, 0.025) > 0.5
    assert (neighbours[0] ^ neighbours[1]).sum() < 0.06 * neighbours[0].sum()
