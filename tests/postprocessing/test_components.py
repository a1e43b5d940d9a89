import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import label

from medzeroseg.postprocessing import FillHoles, LargestComponents, LargestVolumes


def random_masks(seed, shape=(2, 3, 14, 17)):
    rng = np.random.default_rng(seed)
    fields = ndimage.gaussian_filter(rng.normal(size=shape), (0, 0, 1, 1))
    return torch.from_numpy(fields > rng.normal(scale=0.1))


def picture(text):
    return torch.tensor([[c == "#" for c in row] for row in text.split()])[None, None]


@given(seed=st.integers(0, 10_000), n=st.integers(1, 4), connectivity=st.sampled_from([4, 8]), least=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_the_largest_parts_one_mask_at_a_time(seed, n, connectivity, least):
    masks = random_masks(seed)
    found = LargestComponents(n, connectivity, least)(masks)
    for before, after in zip(masks.flatten(0, 1).numpy(), found.flatten(0, 1).numpy(), strict=True):
        labels = label(before, connectivity=connectivity // 4)
        areas = np.bincount(labels.ravel())[1:]
        best = sorted(range(len(areas)), key=lambda i: (-areas[i], i))[:n]
        expected = np.isin(labels, [i + 1 for i in best if areas[i] >= least])
        np.testing.assert_array_equal(after, expected)


def test_parts_of_equal_size_in_reading_order():
    assert torch.equal(LargestComponents(1)(picture("##..## ##..##")), picture("##.... ##...."))


def test_diagonal_neighbours_count_on_request():
    mask = picture("#... .##. ....")
    assert LargestComponents(1, connectivity=8)(mask).sum() == 3
    assert LargestComponents(1, connectivity=4)(mask).sum() == 2


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_holes_one_mask_at_a_time(seed):
    masks = random_masks(seed)
    found = FillHoles()(masks)
    for before, after in zip(masks.flatten(0, 1).numpy(), found.flatten(0, 1).numpy(), strict=True):
        np.testing.assert_array_equal(after, ndimage.binary_fill_holes(before))


def test_large_holes_may_stay():
    mask = picture("######### #..###.## #..###### #########")
    filled = FillHoles(max_area_px=2)(mask)
    assert torch.equal(filled, picture("######### #..###### #..###### #########"))


def test_masks_that_touch_across_the_stack_stay_apart():
    masks = torch.ones(1, 2, 3, 3, dtype=torch.bool)
    masks[0, 1, :, 1] = False
    assert LargestComponents(1)(masks).sum(dim=(2, 3)).tolist() == [[9, 3]]


def test_a_pair_stays_and_a_speck_beside_one_goes():
    pair, alone, equal = "####.###", "####...#", "##.##.##"
    masks = torch.cat([picture(rows) for rows in (pair, alone, equal)], dim=1)
    found = LargestComponents(2, least_share=0.5)(masks)
    expected = torch.cat([picture(rows) for rows in (pair, "####....", "##.##...")], dim=1)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LargestComponents(0), "n must"),
        (lambda: LargestComponents(connectivity=6), "connectivity"),
        (lambda: LargestComponents(min_area_px=-1), "min_area_px"),
        (lambda: LargestComponents(least_share=1.5), "least_share"),
        (lambda: FillHoles(max_area_px=0), "max_area_px"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@given(seed=st.integers(0, 10_000), n=st.integers(1, 3), share=st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=40, deadline=None)
def test_the_largest_parts_of_volumes_one_at_a_time(seed, n, share):
    masks = random_masks(seed, (2, 5, 14, 17))  # two prompts, five slices
    found = LargestVolumes(n, share)(masks)
    for before, after in zip(masks.numpy(), found.numpy(), strict=True):
        labels = label(before, connectivity=3)
        sizes = np.bincount(labels.ravel())[1:]
        best = sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))[:n]
        expected = np.isin(labels, [i + 1 for i in best if sizes[i] >= share * sizes.max()])
        np.testing.assert_array_equal(after, expected)


def test_parts_connected_through_slices_count_together_and_a_picture_is_left_alone():
    two_slices = torch.cat([picture("##..# ....."), picture(".#... ...##")], dim=1)
    found = LargestVolumes(1)(two_slices)
    assert torch.equal(found, torch.cat([picture("##... ....."), picture(".#... .....")], dim=1))
    assert torch.equal(LargestVolumes(1)(picture("##..#")), picture("##..#"))
    with pytest.raises(ValueError, match="least_share must be in"):
        LargestVolumes(1, 2.0)
