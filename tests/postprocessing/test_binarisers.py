"""Thresholds against independent implementations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from skimage.filters import threshold_otsu

from medzeroseg.postprocessing import DenseCRF, KMeans, Otsu, OtsuProbability, PercentileThreshold, Threshold
from medzeroseg.postprocessing.k_means import k_means_centres
from medzeroseg.postprocessing.otsu import otsu_thresholds

unit_maps = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12),
    elements=st.floats(0, 1, width=32, allow_subnormal=False),
)


def batch(image):
    return torch.from_numpy(image)[None, None]


@given(unit_maps)
@settings(max_examples=150, deadline=None)
def test_otsu_is_that_of_scikit_image(image):
    expected = threshold_otsu(image.astype(np.float64))
    found = float(otsu_thresholds(batch(image)))
    if found != pytest.approx(expected, abs=1e-9):
        # two bins may be equally good up to rounding: then they must separate equally well

        def variance(limit):
            above = image > limit
            weight = above.mean()
            if weight in (0, 1):
                return 0.0
            return weight * (1 - weight) * (image[above].mean() - image[~above].mean()) ** 2

        assert variance(found) >= variance(expected) - 1e-2 * np.ptp(image) ** 2
        assert abs(found - expected) <= np.ptp(image)


def test_otsu_on_two_hills_in_a_batch():
    generator = torch.Generator().manual_seed(0)
    low = 0.2 + 0.03 * torch.randn(2, 3, 40, 40, generator=generator)
    maps = low.clone()
    maps[:, :, 10:20, 10:30] += 0.5
    maps = maps.clamp(0, 1)
    found = otsu_thresholds(maps)
    expected = [[threshold_otsu(m.double().numpy()) for m in row] for row in maps]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)
    mask = Otsu()(maps)
    assert mask[:, :, 10:20, 10:30].all()
    assert mask.sum() < 1.01 * 2 * 3 * 200


@given(unit_maps)
@settings(max_examples=150, deadline=None)
def test_one_half_of_otsus_probability_is_otsus_threshold(image):
    maps = batch(image)
    found = OtsuProbability()(maps)
    if image.min() == image.max():
        assert torch.equal(found, maps)
        return
    by_value = maps.flatten().argsort()
    assert (found.flatten()[by_value].diff() >= 0).all()  # the order stays
    other = (found > 0.5) != Otsu()(maps)
    at_threshold = (maps - otsu_thresholds(maps)[..., None, None]).abs() < 1e-6  # rounding may put these on either side
    assert not (other & ~at_threshold).any()


def test_a_small_structure_on_a_faint_map_survives_the_crf():
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    disc = (rows - 32) ** 2 + (columns - 30) ** 2 < 5**2
    image = 0.2 + 0.5 * disc.float()
    # the map is brightest elsewhere in the case, and smeared over the disc's border
    maps = 0.45 * torch.exp(-((rows - 32) ** 2 + (columns - 32) ** 2) / (2 * 6**2))
    crf = DenseCRF(appearance_sigma=0.05, intensity_sigma=0.05)

    def dice(steps):
        found = maps[None, None]
        for step in steps:
            found = step(found, image[None])
        return float(2 * (found[0, 0] & disc).sum() / (found.sum() + disc.sum()))

    assert dice([crf, Threshold()]) == 0
    assert dice([OtsuProbability(), crf, Threshold()]) > dice([Otsu()]) + 0.1


def lloyd(values, k):
    """Lloyd's algorithm as in a textbook."""
    values = values.ravel().astype(np.float64)
    centres = np.linspace(values.min(), values.max(), k)
    for _ in range(300):
        nearest = np.abs(values[:, None] - centres).argmin(1)  # the first of two equally near, the lower one
        moved = np.array([values[nearest == i].mean() if (nearest == i).any() else centres[i] for i in range(k)])
        if np.allclose(moved, centres, rtol=0, atol=1e-15):
            break
        centres = moved
    return centres, nearest.reshape(-1)


@given(
    seed=st.integers(0, 10_000), k=st.integers(2, 3), size=st.integers(3, 200), levels=st.sampled_from([5, 256, None])
)
@settings(max_examples=80, deadline=None)
def test_k_means_is_lloyd(seed, k, size, levels):
    rng = np.random.default_rng(seed)
    values = rng.beta(0.6, 1.2, size=(1, size))
    values = values if levels is None else np.round(values * levels) / levels + 0.1 / 7
    values = np.clip(values, 0, 1)
    expected, nearest = lloyd(values, k)
    found = k_means_centres(batch(values), k)[0, 0].numpy()
    if levels is None:  # on a coarse scale a value half-way can go either way by rounding
        np.testing.assert_allclose(found, expected, atol=1e-9)
        mask = KMeans(k)(batch(values))[0, 0].numpy().ravel()
        np.testing.assert_array_equal(mask, nearest == k - 1)
    else:
        assert (np.diff(found) >= 0).all()


def test_k_means_with_three_clusters():
    values = torch.tensor([0.0, 0.05, 0.4, 0.45, 0.9, 1.0])[None, None, None]
    assert KMeans(3)(values).flatten().tolist() == [False] * 4 + [True] * 2
    assert KMeans(3, foreground=2)(values).flatten().tolist() == [False] * 2 + [True] * 4


def test_k_means_keeps_an_empty_cluster():
    values = torch.tensor([0.0, 0.0, 1.0, 1.0])[None, None, None]
    assert k_means_centres(values, 3).flatten().tolist() == [0.0, 0.5, 1.0]
    assert KMeans(3)(values).flatten().tolist() == [False, False, True, True]


def test_fixed_threshold():
    assert Threshold(0.5)(torch.tensor([[[[0.0, 0.5, 0.51, 1.0]]]])).flatten().tolist() == [False, False, True, True]


@given(seed=st.integers(0, 1000), size=st.integers(1, 100), percent=st.floats(0, 99.9))
@settings(deadline=None)
def test_percentile_keeps_its_share(seed, size, percent):
    values = np.random.default_rng(seed).permutation(size) / size
    mask = PercentileThreshold(percent)(batch(values[None]))[0, 0, 0].numpy()
    dropped = max(int(np.floor(size * percent / 100)), 1)
    assert mask.sum() == size - dropped
    assert not mask.any() or values[mask].min() > values[~mask].max()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Threshold(1.0), "value"),
        (lambda: PercentileThreshold(100), "percent"),
        (lambda: Otsu(1), "bins"),
        (lambda: KMeans(1), "clusters"),
        (lambda: KMeans(2, foreground=2), "foreground"),
        (lambda: KMeans(max_steps=0), "max_steps"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
