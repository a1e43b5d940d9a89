"""HD95 and NSD against a loop over all pairs of points, MONAI, hand-counted cases, and their symmetries."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_hausdorff_distance, compute_surface_dice

from medzeroseg.metrics import BorderVoxels, Surface, SurfaceElements, surface_scores

SPACING = (3.0, 0.7, 1.1)
SHAPE = (6, 11, 9)


def blobs(seed: int, shape: tuple[int, ...] = SHAPE) -> tuple[torch.Tensor, torch.Tensor]:
    """Two overlapping random masks, one label, neither empty."""
    generator = torch.Generator().manual_seed(seed)
    field = torch.rand(2, *shape, generator=generator)
    both = field[:1] + 0.3 * field[1:] > 0.9, field[:1] > 0.75
    for mask in both:
        mask[(0, *(n // 2 for n in shape))] = True
    return both


def slow_scores(
    first: torch.Tensor, second: torch.Tensor, spacing: tuple[float, ...], tolerance: float
) -> tuple[float, float]:
    """Border voxels by looking at each neighbour, distances by all pairs."""
    points = []
    for mask in (first[0].numpy(), second[0].numpy()):
        border = []
        for place in np.argwhere(mask):
            for axis in range(mask.ndim):
                for step in (-1, 1):
                    other = place.copy()
                    other[axis] += step
                    outside = other[axis] < 0 or other[axis] >= mask.shape[axis]
                    if outside or not mask[tuple(other)]:
                        border.append(tuple(place))
        points.append(np.array(sorted(set(border))) * np.array(spacing))
    distances = np.linalg.norm(points[0][:, None] - points[1][None], axis=2)
    there, back = distances.min(1), distances.min(0)
    within = (there <= tolerance + 1e-6).sum() + (back <= tolerance + 1e-6).sum()
    return max(np.percentile(there, 95), np.percentile(back, 95)), within / (len(there) + len(back))


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), tolerance=st.sampled_from([0.0, 0.7, 1.5, 3.0]))
def test_scores_equal_a_loop_over_all_pairs(seed: int, tolerance: float) -> None:
    hd95, nsd = surface_scores(*blobs(seed), SPACING, tolerance=tolerance)
    expected = slow_scores(*blobs(seed), SPACING, tolerance)
    assert (hd95.item(), nsd.item()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [SHAPE, (17, 13)])
def test_border_voxels_are_those_of_monai(seed: int, shape: tuple[int, ...]) -> None:
    prediction, reference = blobs(seed, shape)
    spacing = SPACING[-len(shape) :]
    hd95, nsd = surface_scores(prediction, reference, spacing, tolerance=1.0)
    pair = prediction[None].float(), reference[None].float()
    theirs = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
    assert hd95.item() == pytest.approx(theirs.item(), abs=1e-4)
    theirs = compute_surface_dice(*pair, [1.0], include_background=True, spacing=spacing)
    assert nsd.item() == pytest.approx(theirs.item(), abs=1e-6)


@pytest.mark.parametrize("shape", [SHAPE, (17, 13)])
def test_surface_elements_weigh_as_in_monai(shape: tuple[int, ...]) -> None:
    prediction, reference = blobs(1, shape)
    spacing = SPACING[-len(shape) :]
    _, nsd = surface_scores(prediction, reference, spacing, tolerance=1.0, surface=SurfaceElements())
    pair = prediction[None].float(), reference[None].float()
    theirs = compute_surface_dice(*pair, [1.0], include_background=True, spacing=spacing, use_subvoxels=True)
    assert nsd.item() == pytest.approx(theirs.item(), abs=1e-5)


def test_percentile_of_surface_elements_is_by_area() -> None:
    distances, areas = np.array([4.0, 1.0, 2.0, 3.0]), np.array([0.5, 6.0, 3.0, 0.5])
    # in order of distance the shares of the area are 0.6, 0.9, 0.95, 1
    assert [SurfaceElements().percentile(distances, areas, p) for p in (50, 89, 94, 100)] == [1, 2, 3, 4]


def test_distances_counted_by_hand() -> None:
    prediction, reference = torch.zeros(2, 1, 1, 10, 10).bool()
    prediction[0, 0, 2, 2:6] = True
    reference[0, 0, 4, 2:6] = True  # 2 rows of 1.5 mm below
    hd95, nsd = surface_scores(prediction, reference, (8, 1.5, 1), tolerance=2.9)
    assert [hd95.item(), nsd.item()] == pytest.approx([3.0, 0.0])
    assert surface_scores(prediction, reference, (8, 1.5, 1), tolerance=3.0)[1].item() == 1.0


def test_one_slice_is_a_picture_not_a_volume_of_surface() -> None:
    prediction, reference = blobs(5, (21, 19))
    flat = surface_scores(prediction, reference, SPACING[1:])
    assert surface_scores(prediction[:, None], reference[:, None], (math.nan, *SPACING[1:])) == flat


@pytest.mark.parametrize("surface", [BorderVoxels(), SurfaceElements()])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), shift=st.tuples(*[st.integers(0, 4)] * 3), scale=st.sampled_from([0.5, 2.0, 4.0]))
def test_symmetry_translation_and_scale(surface: Surface, seed: int, shift: tuple[int, int, int], scale: float) -> None:
    prediction, reference = blobs(seed)
    found = surface_scores(prediction, reference, SPACING, tolerance=1.0, surface=surface)
    swapped = surface_scores(reference, prediction, SPACING, tolerance=1.0, surface=surface)
    torch.testing.assert_close(swapped, found, rtol=1e-9, atol=1e-9)
    moved = surface_scores(_moved(prediction, shift), _moved(reference, shift), SPACING, tolerance=1.0, surface=surface)
    torch.testing.assert_close(moved, found, rtol=1e-9, atol=1e-9)
    larger = tuple(scale * step for step in SPACING)
    hd95, nsd = surface_scores(prediction, reference, larger, tolerance=scale, surface=surface)
    torch.testing.assert_close((hd95 / scale, nsd), found, rtol=1e-9, atol=1e-9)


def _moved(mask: torch.Tensor, shift: tuple[int, int, int]) -> torch.Tensor:
    z, y, x = shift
    return torch.nn.functional.pad(mask, (x, 4 - x, y, 4 - y, z, 4 - z))


@pytest.mark.parametrize("surface", [BorderVoxels(), SurfaceElements()])
def test_a_mask_has_no_distance_from_itself(surface: Surface) -> None:
    mask, _ = blobs(3)
    assert [float(x) for x in surface_scores(mask, mask, SPACING, tolerance=0, surface=surface)] == [0, 1]


def test_empty_masks() -> None:
    some = torch.zeros(3, 4, 5, 6, dtype=torch.bool)
    other = some.clone()
    some[0, 0, 0, 0] = other[1, 3, 4, 5] = True
    hd95, nsd = surface_scores(some, other, (2.0, 1.0, 1.0))
    diagonal = math.sqrt((3 * 2) ** 2 + 4**2 + 5**2)
    torch.testing.assert_close(hd95, torch.tensor([diagonal, diagonal, math.nan]).double(), equal_nan=True)
    torch.testing.assert_close(nsd, torch.tensor([0, 0, math.nan]).double(), equal_nan=True)
    # corner to corner is as far as a found structure can be: never worse than an empty mask
    assert surface_scores(some[:1], other[1:2], (2.0, 1.0, 1.0))[0].item() == pytest.approx(diagonal)


def test_lost_spacing_counts_in_pixels() -> None:
    prediction, reference = blobs(2)
    unit = surface_scores(prediction, reference, (1, 1, 1))
    assert surface_scores(prediction, reference, (math.nan, 0.7, 0.7)) == unit
    assert surface_scores(prediction, reference, None) == unit


def test_wrong_arguments_are_refused() -> None:
    prediction, reference = blobs(0)
    with pytest.raises(ValueError, match="shapes differ"):
        surface_scores(prediction, reference[:, 1:], SPACING)
    with pytest.raises(ValueError, match="positive"):
        surface_scores(prediction, reference, (0.0, 1, 1))
    with pytest.raises(ValueError, match="3 values"):
        surface_scores(prediction, reference, (1.0, 1.0))
    with pytest.raises(ValueError, match="tolerance"):
        surface_scores(prediction, reference, SPACING, tolerance=-1)
