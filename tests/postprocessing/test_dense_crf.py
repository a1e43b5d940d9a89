"""The CRF against the O(N^2) mean field with two labels, written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medzeroseg.postprocessing import DenseCRF
from medzeroseg.postprocessing.crf_kernels import IndexedSharing, SparseSharing


def exact_mean_field(probability, image, features, crf):
    """Krähenbühl & Koltun's algorithm 1 with explicit matrices and both labels; features already on the pixels."""
    height, width = probability.shape
    side = max(height, width)
    rows, columns = np.mgrid[:height, :width]
    position = np.stack([rows.ravel(), columns.ravel()], 1).astype(float)

    def normalised(*terms):
        exponent = sum(((x[:, None] - x[None]) ** 2).sum(-1) / (2 * sigma**2) for x, sigma in terms)
        k = np.exp(-exponent)
        n = k.sum(1)
        k = k / np.sqrt(np.outer(n, n))
        np.fill_diagonal(k, 0)
        return k

    total = np.zeros((height * width,) * 2)
    if crf.smoothness_weight:
        total += crf.smoothness_weight * normalised((position, crf.smoothness_sigma * side))
    if crf.appearance_weight:
        intensity = (image.reshape(-1, 1).astype(float), crf.intensity_sigma)
        total += crf.appearance_weight * normalised((position, crf.appearance_sigma * side), intensity)
    if crf.feature_weight:
        vectors = features.reshape(len(features), -1).T.astype(float)
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        term = (vectors, crf.feature_distance_sigma)
        total += crf.feature_weight * normalised((position, crf.feature_sigma * side), term)
    p = np.clip(probability.ravel().astype(float), crf.clip, 1 - crf.clip)
    unary = np.stack([-np.log(1 - p), -np.log(p)])
    q = np.exp(-unary)
    for _ in range(crf.iterations):
        messages = q @ total.T
        energy = unary + messages[::-1]  # Potts: a label pays for its neighbours' belief in the other one
        q = np.exp(-energy + energy.min(0))
        q = q / q.sum(0)
    return q[1].reshape(height, width)


def scene(seed, height, width):
    """A bright blob on a dark ground, both noisy, and a map that only roughly points at it."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=(height, width)), 3)
    blob = field > np.quantile(field, 0.7)
    image = np.clip(0.3 + 0.4 * blob + rng.normal(scale=0.05, size=blob.shape), 0, 1).astype(np.float32)
    saliency = ndimage.gaussian_filter(blob.astype(float), 2) + rng.normal(scale=0.1, size=blob.shape)
    saliency = (saliency - saliency.min()) / np.ptp(saliency)
    return saliency.astype(np.float32), image, blob


def run(crf, maps, images=None, features=None):
    add = [None if x is None else torch.from_numpy(x)[None] for x in (images, features)]
    return crf(torch.from_numpy(maps)[None, None], *add)[0, 0].numpy()


@given(
    seed=st.integers(0, 10_000),
    height=st.integers(12, 26),
    width=st.integers(12, 26),
    appearance=st.floats(0, 8),
    smoothness=st.floats(0, 4),
    intensity_sigma=st.floats(0.04, 0.5),
    iterations=st.integers(0, 10),
)
@settings(max_examples=25, deadline=None)
def test_close_to_the_exact_mean_field(seed, height, width, appearance, smoothness, intensity_sigma, iterations):
    saliency, image, _ = scene(seed, height, width)
    crf = DenseCRF(
        smoothness_weight=smoothness,
        smoothness_sigma=0.08,
        appearance_weight=appearance,
        appearance_sigma=0.2,
        intensity_sigma=intensity_sigma,
        iterations=iterations,
    )
    expected = exact_mean_field(saliency, image, None, crf)
    found = run(crf, saliency, image)
    assert np.abs(found - expected).mean() < 0.015
    # a pixel on the fence may be tipped by a kernel value that is a few per cent off; hardly any may
    assert ((found > 0.5) != (expected > 0.5)).mean() < 0.05


@given(seed=st.integers(0, 10_000), iterations=st.integers(1, 8))
@settings(max_examples=10, deadline=None)
def test_smoothness_and_feature_kernels_are_exact_on_their_own_grid(seed, iterations):
    saliency, image, _ = scene(seed, 14, 11)
    features = np.random.default_rng(seed).normal(size=(5, 14, 11)).astype(np.float32)
    crf = DenseCRF(smoothness_sigma=0.1, appearance_weight=0.0, feature_weight=3.0, iterations=iterations)
    expected = exact_mean_field(saliency, image, features, crf)
    np.testing.assert_allclose(run(crf, saliency, image, features), expected, atol=3e-3)


def test_images_and_prompts_do_not_influence_each_other():
    torch.manual_seed(0)
    maps, images, features = torch.rand(3, 2, 20, 24), torch.rand(3, 20, 24), torch.randn(3, 4, 5, 6)
    crf = DenseCRF(feature_weight=2.0)
    together = crf(maps, images, features)
    for b in range(3):
        for p in range(2):
            alone = crf(maps[b : b + 1, p : p + 1], images[b : b + 1], features[b : b + 1])
            torch.testing.assert_close(together[b, p], alone[0, 0], atol=1e-5, rtol=1e-5)


def test_snaps_the_map_to_the_edges_of_the_image():
    def dice(a, b):
        return 2 * (a & b).sum() / (a.sum() + b.sum())

    saliency, image, blob = scene(3, 64, 64)
    refined = run(DenseCRF(), saliency, image)
    assert dice(refined > 0.5, blob) > dice(saliency > 0.5, blob) + 0.05
    assert dice(refined > 0.5, blob) > 0.9


def test_features_guide_where_the_image_does_not():
    rows = torch.linspace(0, 1, 32)
    maps = (0.5 + 0.1 * torch.sign(0.3 - rows))[:, None].expand(32, 32).clone()
    features = torch.zeros(1, 2, 8, 8)
    features[:, 0, :4], features[:, 1, 4:] = 1, 1  # another edge than the map's: at one half
    crf = DenseCRF(smoothness_weight=0, appearance_weight=0, feature_weight=4.0, feature_distance_sigma=0.3)
    refined = crf(maps[None, None], None, features)[0, 0]
    upper, lower = refined[2:14], refined[18:30]
    assert upper.min() > 0.5 > lower.max()


def test_resolution_does_not_matter():
    saliency, image, _ = scene(5, 48, 48)
    large = [np.repeat(np.repeat(x, 2, 0), 2, 1) for x in (saliency, image)]
    small, big = run(DenseCRF(), saliency, image), run(DenseCRF(), *large)
    assert (((small > 0.5).repeat(2, 0).repeat(2, 1)) != (big > 0.5)).mean() < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": -1}, "iterations"),
        ({"clip": 0.5}, "clip"),
        ({"appearance_sigma": 0.0}, "appearance_sigma"),
        ({"feature_weight": -1.0}, "feature_weight"),
        ({"intensity_sigma": float("nan")}, "intensity_sigma"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DenseCRF(**options)


def test_missing_or_misfitting_guides_are_named():
    maps = torch.rand(1, 1, 8, 8)
    with pytest.raises(ValueError, match="images must be grey"):
        DenseCRF()(maps)
    with pytest.raises(ValueError, match="images must be grey"):
        DenseCRF()(maps, torch.rand(1, 9, 8))
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        DenseCRF()(maps, torch.full((1, 8, 8), torch.nan))
    with pytest.raises(ValueError, match="feature_weight"):
        DenseCRF(feature_weight=1.0)(maps, torch.rand(1, 8, 8))


def test_constant_image_and_single_pixel():
    assert torch.isfinite(DenseCRF()(torch.rand(1, 1, 8, 8), torch.zeros(1, 8, 8))).all()
    assert torch.isfinite(DenseCRF()(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1))).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_are_shared_alike_on_a_cpu_and_elsewhere(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(3)
    cells = torch.randint(0, 29, (50, 8), generator=draw)
    shares = torch.rand(50, 8, generator=draw, dtype=dtype)
    pixels, sums = (torch.rand(n, 3, generator=draw, dtype=dtype) for n in (50, 29))
    matrix = torch.zeros(50, 29, dtype=dtype).scatter_add_(1, cells, shares)  # a pixel may name a cell twice
    for sharing in (SparseSharing(cells, shares, 29), IndexedSharing(cells, shares, 29)):
        torch.testing.assert_close(sharing.out(pixels), matrix.T @ pixels)
        torch.testing.assert_close(sharing.back(sums), matrix @ sums)
