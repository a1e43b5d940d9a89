import numpy as np
import pytest

from medzeroseg.imaging import Geometry, Volume, from_display, to_display
from tests.imaging.test_geometry import ALL_LAYOUTS

SHAPE = (4, 5, 6)


def volume_with_landmarks(layout, tilt: float = 0.0) -> tuple[Volume, Volume]:
    """A volume in radiological order with one bright voxel at the feet, front and right; and the same, re-laid."""
    array = np.zeros(SHAPE, np.int16)
    array[0, 0, 0] = 9
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    affine = np.eye(4)
    # columns: D to the head, H to the back, W to the left, in RAS millimetres
    affine[:3, :3] = turn @ np.array([[0, 0, -1.5], [0, -2.0, 0], [3.0, 0, 0]])
    affine[:3, 3] = 10, 20, 30
    geometry = Geometry(affine)
    stored = Volume(layout.apply(array), geometry.seen_through(layout, SHAPE))
    return Volume(array, geometry), stored


@pytest.mark.parametrize("tilt", [0.0, 0.4])
def test_any_stored_order_is_shown_as_radiologists_look(tilt: float):
    for layout in ALL_LAYOUTS:
        expected, stored = volume_with_landmarks(layout, tilt)
        shown = to_display(stored)
        assert np.array_equal(shown.array, expected.array)
        assert np.allclose(shown.geometry.affine_ras_mm, expected.geometry.affine_ras_mm)
        assert shown.spacing_mm == pytest.approx((3.0, 2.0, 1.5))


def test_masks_and_float_maps_come_back_exactly():
    rng = np.random.default_rng(0)
    for layout in ALL_LAYOUTS:
        _, stored = volume_with_landmarks(layout)
        for plane in ("axial", "coronal", "sagittal", "stored"):
            view = to_display(to_display(stored), plane)
            maps = rng.random((*stored.shape, 2)).astype(np.float32)
            assert np.array_equal(from_display(view.layout.apply(maps), view), maps)
            assert np.array_equal(from_display(view.array, view), stored.array)
        back = to_display(to_display(stored, "coronal"), "stored")
        assert np.array_equal(back.array, stored.array)
        assert np.allclose(back.geometry.affine_ras_mm, stored.geometry.affine_ras_mm)


def test_planes():
    shown, _ = volume_with_landmarks(ALL_LAYOUTS[0])
    assert to_display(shown, "coronal").array[0, -1, 0] == 9  # front, feet at the bottom, right at the left
    assert to_display(shown, "sagittal").array[0, -1, 0] == 9  # rightmost slice, feet at the bottom, front at the left
    assert to_display(shown, "coronal").spacing_mm == pytest.approx((2.0, 3.0, 1.5))
    with pytest.raises(ValueError, match="plane"):
        to_display(shown, "oblique")


def test_without_geometry_nothing_is_turned():
    picture = Volume(np.arange(6).reshape(1, 2, 3), spacing_mm=(float("nan"), 2.0, 1.0))
    assert np.array_equal(to_display(picture).array, picture.array)
    assert to_display(picture).spacing_mm[1:] == (2.0, 1.0)


def test_display_copies_nothing():
    _, stored = volume_with_landmarks(ALL_LAYOUTS[-1])
    assert np.shares_memory(to_display(stored).array, stored.array)


def test_bad_shapes_are_named():
    with pytest.raises(ValueError, match="array"):
        Volume(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="rgb"):
        Volume(np.zeros((1, 2, 3)), rgb=np.zeros((1, 2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="array"):
        from_display(np.zeros((1, 2, 2)), Volume(np.zeros((1, 2, 3))))
