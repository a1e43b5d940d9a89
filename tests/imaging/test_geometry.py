from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from medzeroseg.imaging import AxisLayout, Geometry

ALL_LAYOUTS = [
    AxisLayout(order, flips) for order in permutations(range(3)) for flips in product([False, True], repeat=3)
]


def oblique(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    affine = np.eye(4)
    affine[:3, :3] = rotation * rng.uniform(0.5, 5, 3)
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    return affine


def test_layouts_are_undone_exactly_and_compose():
    array = np.arange(2 * 3 * 4 * 2).reshape(2, 3, 4, 2)
    for first in ALL_LAYOUTS:
        assert np.array_equal(first.undo(first.apply(array)), array)
        assert first.then(first.inverse()) == AxisLayout()
        for second in ALL_LAYOUTS:
            assert np.array_equal(first.then(second).apply(array), second.apply(first.apply(array)))


@pytest.mark.parametrize("seed", range(20))
def test_orientation_agrees_with_nibabel(seed: int):
    affine = oblique(seed)
    geometry = Geometry(affine[:, [2, 1, 0, 3]])
    assert geometry.orientation[::-1] == "".join(nib.aff2axcodes(affine))
    assert geometry.spacing_mm == pytest.approx(nib.affines.voxel_sizes(affine)[::-1])


@pytest.mark.parametrize("seed", range(5))
def test_every_voxel_stays_where_it_is_in_the_patient(seed: int):
    geometry, shape = Geometry(oblique(seed)), (3, 4, 5)
    places = np.einsum("ij,j...->...i", geometry.affine_ras_mm, _indices(shape))
    for layout in ALL_LAYOUTS:
        seen = layout.apply(places)
        view = geometry.seen_through(layout, shape)
        assert np.allclose(seen, np.einsum("ij,j...->...i", view.affine_ras_mm, _indices(seen.shape[:3])))


def _indices(shape: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([np.indices(shape), np.ones((1, *shape))])


@pytest.mark.parametrize("target", ["SPL", "RAS", "LIP", "AIR"])
def test_layout_leads_to_the_orientation_asked_for(target: str):
    for seed in range(10):
        geometry = Geometry(oblique(seed))
        assert geometry.seen_through(geometry.layout_towards(target), (3, 4, 5)).orientation == target


def test_bad_arguments_are_named():
    for affine in (np.eye(3), np.full((4, 4), np.nan), np.diag([1.0, 1.0, 0.0, 1.0]), np.ones((4, 4))):
        with pytest.raises(ValueError, match="affine_ras_mm"):
            Geometry(affine)
    for letters in ("SPS", "SP", "xyz", "SPLR"):
        with pytest.raises(ValueError, match="orientation"):
            Geometry(np.eye(4)).layout_towards(letters)
