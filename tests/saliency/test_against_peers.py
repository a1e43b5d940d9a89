"""The same maps as the `grad-cam` package and as the published forms, image by image."""

import pytest
import pytorch_grad_cam
import torch

from benchmarks import saliency_peers as peers
from medzeroseg.saliency import (
    M2IB,
    GradCAM,
    GradCAMPlusPlus,
    GScoreCAM,
    LayerCAM,
    ScoreCAM,
    normalise_maps,
    resize_maps,
)
from medzeroseg.saliency.noise import keyed_noise

KEYS = ["a", "b"]


def layer_of(method, model):
    return next(x for x in model.saliency_layers if x.name == method.layer_used(model))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (GradCAM(), pytorch_grad_cam.GradCAM),
        (LayerCAM(), pytorch_grad_cam.LayerCAM),
        (ScoreCAM(), pytorch_grad_cam.ScoreCAM),
    ],
    ids=lambda x: getattr(x, "title", ""),
)
def test_the_package_agrees(ours, theirs, model, make_batch):
    images, texts = make_batch(model, 2, 2)
    mine = ours(model, images, texts, keys=KEYS).maps
    expected = peers.package_maps(theirs, model, layer_of(ours, model), images, texts)
    # the package enlarges with cv2, whose bilinear corners are torch's align_corners=False
    found = normalise_maps(resize_maps(mine, model.image_size_px))
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=0)
    assert expected.max() > 0.9  # not a pair of empty maps


def test_the_package_agrees_on_grad_cam_plus_plus(models, make_batch):
    """Behind a ReLU, where the paper's formula holds as it stands; elsewhere the package has a pole."""
    model = models["resnet"]
    images, texts = make_batch(model, 2, 2)
    method = GradCAMPlusPlus()
    expected = peers.package_maps(pytorch_grad_cam.GradCAMPlusPlus, model, layer_of(method, model), images, texts)
    found = normalise_maps(resize_maps(method(model, images, texts, keys=KEYS).maps, model.image_size_px))
    # its small constant in the denominator is felt where gradients are small
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


def test_grad_cam_plus_plus_by_the_paper():
    torch.manual_seed(0)
    activations, gradients = torch.rand(2, 5, 3, 4).double(), torch.randn(2, 5, 3, 4).double()
    mass = activations.sum((2, 3), keepdim=True)
    alpha = gradients**2 / (2 * gradients**2 + mass * gradients**3)  # equation 19, exp(S) as the score
    expected = ((alpha * gradients.relu()).sum((2, 3), keepdim=True) * activations).sum(1)
    torch.testing.assert_close(GradCAMPlusPlus()._combine(activations, gradients), expected)


@pytest.mark.parametrize("channels", [12, 10_000])
def test_g_score_cam_is_the_authors_loop(channels, model, make_batch):
    images, texts = make_batch(model, 2, 2)
    method = GScoreCAM(channels=channels, chunk_size=7)
    expected = peers.g_score_cam_loop(model, layer_of(method, model), images, texts, channels, batch_size=50)
    found = method(model, images, texts, keys=KEYS).maps
    torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.max()), rtol=1e-4)


@pytest.mark.parametrize("chunk_size", [1, 1000])
def test_m2ib_is_the_authors_form(chunk_size, model, make_batch):
    images, texts = make_batch(model, 2, 2)
    method = M2IB(chunk_size=chunk_size, copies=3)

    def noise(image, step, shape):
        return keyed_noise(KEYS[image], step, shape)

    expected = peers.m2ib_loop(model, layer_of(method, model), images, texts, noise, copies=3)
    found = method(model, images, texts, keys=KEYS).maps
    assert (found - expected).abs().max() <= 1e-3 * expected.abs().max()


def test_m2ib_stays_finite_long_after_the_authors_form_is_not(vit, make_batch):
    images, texts = make_batch(vit, 1, 1)
    maps = M2IB(steps=60, copies=1, beta=0.0)(vit, images, texts, keys=["a"]).maps
    assert torch.isfinite(maps).all()
