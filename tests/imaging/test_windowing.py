import numpy as np
import pytest

from medzeroseg.imaging import (
    ABDOMEN_WINDOW_HU,
    WINDOWS_HU,
    FixedWindow,
    PercentileWindow,
    array_to_picture,
    percentile_window,
)


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


def test_presets_are_windows_of_ct():
    assert WINDOWS_HU["abdomen"] == ABDOMEN_WINDOW_HU
    assert {"abdomen", "lung", "bone", "brain", "mediastinum"} <= set(WINDOWS_HU)
    for low, high in WINDOWS_HU.values():
        assert FixedWindow(low, high).apply([low - 1, low, (low + high) / 2, high, high + 1]).tolist() == [
            0,
            0,
            0.5,
            1,
            1,
        ]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_percentile_window_agrees_with_numpy(dtype: type):
    values = np.random.default_rng(0).integers(0, 255, (7, 8, 9)).astype(dtype)
    expected = np.percentile(values.astype(np.float64), (0.5, 99.5))
    assert percentile_window(values) == pytest.approx(tuple(expected))
    scaled = PercentileWindow().apply(values)
    assert scaled.dtype == np.float32
    low, high = expected
    assert np.allclose(scaled, np.clip((values.astype(float) - low) / (high - low), 0, 1), atol=1e-6)


def test_percentiles_of_wide_integers_do_not_overflow():
    assert percentile_window(np.array([-32768, 32767], np.int16), (25, 75)) == (-16384.25, 16383.25)


def test_window_of_values_that_are_not_finite_or_all_equal():
    assert FixedWindow(0, 1).apply([np.nan, np.inf, -np.inf, 0.5]).tolist() == [0, 1, 0, 0.5]
    assert PercentileWindow().apply(np.full((2, 2), 7)).tolist() == [[0, 0], [0, 0]]


def test_bad_windows_are_named():
    for low, high in ((1, 1), (2, 1), (np.nan, 1)):
        with pytest.raises(ValueError, match="window"):
            FixedWindow(low, high)
    for lower, upper in ((5, 5), (-1, 50), (50, 101)):
        with pytest.raises(ValueError, match="percentiles"):
            PercentileWindow(lower, upper)
