import numpy as np
import pytest

from medzeroseg.imaging import ABDOMEN_WINDOW_HU, array_to_picture, percentile_window


def test_window_maps_its_ends_to_black_and_white():
    values = np.array([[-1000.0, -160.0, 40.0, 240.0, 3000.0]])
    got = np.asarray(array_to_picture(values, ABDOMEN_WINDOW_HU))
    assert got[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert (got == got[..., :1]).all()


def test_size_and_orientation():
    values = np.zeros((3, 5))
    values[0, 4] = 1.0
    picture = array_to_picture(values, (0, 1))
    assert picture.size == (5, 3)
    assert picture.getpixel((4, 0)) == (255, 255, 255)


def test_percentiles_ignore_what_is_not_finite():
    values = np.concatenate([np.linspace(0, 1000, 1001), [np.nan, np.inf]])
    assert percentile_window(values) == pytest.approx((5.0, 995.0))
    assert percentile_window([np.nan]) == (0.0, 0.0)


def test_constant_and_non_finite_slices_are_black():
    assert not np.asarray(array_to_picture(np.full((4, 4), 7.0))).any()
    assert not np.asarray(array_to_picture(np.full((4, 4), np.nan))).any()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="values"):
        array_to_picture(np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match="window"):
        array_to_picture(np.zeros((2, 3)), (5, 1))
