"""What every method promises."""

import inspect

import pytest
import torch
from torch.nn import functional as F

from medzeroseg import saliency
from medzeroseg.losses import PresenceLoss
from medzeroseg.models import DPFEM, ImageTextModel, PatchTower
from medzeroseg.saliency import (
    M2IB,
    DPFEMEvidence,
    DPFEMSimilarity,
    GradCAM,
    GradCAMPlusPlus,
    GScoreCAM,
    LayerCAM,
    PatchTextEvidence,
    PatchTextSimilarity,
    SaliencyError,
    SaliencyMethod,
    ScoreCAM,
    ZeroGradientError,
)
from medzeroseg.saliency.noise import keyed_noise
from medzeroseg.saliency.patch_text_evidence import encode_between_patches

KEYS = ["a", "b", "c", "d"]
METHODS = [
    GradCAM(),
    GradCAMPlusPlus(),
    LayerCAM(),
    ScoreCAM(chunk_size=50),
    GScoreCAM(channels=8, chunk_size=5),
    M2IB(steps=3, copies=2, chunk_size=4),
    PatchTextSimilarity(),
]
with_every_method = pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
LAYERED = [type(m) for m in METHODS if not isinstance(m, PatchTextSimilarity)]


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + ("forward" in m.__dict__) for m in model.modules())


def test_the_list_is_complete():
    public = [getattr(saliency, name) for name in saliency.__all__]
    concrete = {x for x in public if inspect.isclass(x) and issubclass(x, SaliencyMethod) and not inspect.isabstract(x)}
    assert concrete == {*(type(m) for m in METHODS), DPFEMSimilarity, PatchTextEvidence, DPFEMEvidence}
    assert len({x.title for x in concrete}) == len(concrete)


@with_every_method
def test_shapes_scores_and_layer(method, model, make_batch):
    images, texts = make_batch(model, 2)
    result = method(model, images, texts, keys=KEYS[:2])
    assert result.maps.shape[:2] == (2, 3)
    assert result.maps.dtype == result.scores.dtype == torch.float32
    assert not result.maps.requires_grad
    assert not result.scores.requires_grad
    assert result.layer == method.layer_used(model)
    if not isinstance(method, M2IB) or model.name != "small":
        assert result.maps.shape[2:] == model.patch_grid
    with torch.no_grad():
        torch.testing.assert_close(result.scores, model.encode_image(images) @ texts.T, atol=1e-5, rtol=1e-5)


@with_every_method
def test_independent_of_batch_and_order(method, model, make_batch):
    images, texts = make_batch(model)
    together = method(model, images, texts, keys=KEYS)
    scale = together.maps.abs().amax()
    order = [2, 0, 3, 1]
    shuffled = method(model, images[order], texts, keys=[KEYS[i] for i in order])
    assert (shuffled.maps - together.maps[order]).abs().max() < 1e-4 * scale
    alone = method(model, images[1:2], texts, keys=KEYS[1:2])
    assert (alone.maps[0] - together.maps[1]).abs().max() < 1e-4 * scale
    one_text = method(model, images[1:2], texts[2:], keys=KEYS[1:2])
    assert (one_text.maps[0, 0] - together.maps[1, 2]).abs().max() < 1e-4 * scale


@with_every_method
def test_texts_for_each_image_and_of_any_length(method, vit, make_batch):
    images, texts = make_batch(vit, 2)
    own = torch.stack([texts, texts.flip(0)])
    shared = method(vit, images, 7 * texts, keys=KEYS[:2]).maps
    found = method(vit, images, own, keys=KEYS[:2]).maps
    scale = shared.abs().amax()
    assert (found[0] - shared[0]).abs().max() < 1e-4 * scale
    assert (found[1] - shared[1].flip(0)).abs().max() < 1e-4 * scale


@with_every_method
def test_the_map_depends_on_the_text(method, model, make_batch):
    images, texts = make_batch(model, 1)
    maps = method(model, images, texts, keys=KEYS[:1]).maps[0]
    assert (maps - maps.mean(dim=0)).abs().max() > 1e-3 * maps.abs().max() > 0


@with_every_method
def test_leaves_no_trace(method, model, make_batch):
    images, texts = make_batch(model, 1)
    with torch.no_grad():
        before = model.encode_image(images)
    with torch.inference_mode():
        # as a trainer's test loop calls it
        method(model, images.clone(), texts.clone(), keys=KEYS[:1])
    assert torch.is_grad_enabled()
    assert hooks(model) == 0
    assert all(p.grad is None for p in model.parameters())
    with torch.no_grad():
        torch.testing.assert_close(model.encode_image(images), before, rtol=0, atol=0)


@with_every_method
def test_hooks_are_gone_after_an_exception(method, models, make_batch, monkeypatch):
    model = models["small"]
    images, texts = make_batch(model, 1)
    calls = []

    def fail(features):
        calls.append(features)
        raise RuntimeError("broken")

    for name in ("image_features", "encode_image_and_patches"):
        original = getattr(model, name)
        # behind the tower, so that hooks and replaced modules have been used
        monkeypatch.setattr(model, name, lambda x, original=original: fail(original(x)))
    with pytest.raises(RuntimeError, match="broken"):
        method(model, images, texts, keys=KEYS[:1])
    assert calls
    assert hooks(model) == 0
    assert torch.is_grad_enabled()


def test_a_failing_tail_restores_the_modules(models, make_batch, monkeypatch):
    model = models["small"]
    images, texts = make_batch(model, 1)
    encode, count = model.encode_image, []

    def second_fails(x):
        count.append(1)
        if len(count) == 2:
            raise RuntimeError("broken")
        return encode(x)

    monkeypatch.setattr(model, "encode_image", second_fails)
    with pytest.raises(RuntimeError, match="broken"):
        M2IB()(model, images, texts, keys=KEYS[:1])
    assert hooks(model) == 0


@pytest.mark.parametrize("method", [GradCAM, GradCAMPlusPlus, LayerCAM, GScoreCAM, M2IB])
@pytest.mark.parametrize("family", ["timm_vit", "open_clip_vit"])
def test_a_layer_without_gradient_is_an_error_not_a_picture(method, family, models, make_batch):
    model = models[family]
    images, texts = make_batch(model, 2)
    unsafe = [x for x in model.saliency_layers if not x.safe]
    assert unsafe
    for layer in unsafe:
        with pytest.raises(ZeroGradientError) as error:
            method(layer=layer.name)(model, images, texts, keys=KEYS[:2])
        assert layer.name in str(error.value)
        assert "earlier layer" in str(error.value)
        assert hooks(model) == 0


@pytest.mark.parametrize("method", LAYERED)
def test_default_layers_are_safe_and_layers_can_be_named(method, model, make_batch):
    images, texts = make_batch(model, 1, 1)
    safe = {x.name for x in model.saliency_layers if x.safe}
    assert method().layer_used(model) in safe
    first = model.saliency_layers[0].name
    assert method(layer=first)(model, images, texts, keys=KEYS[:1]).layer == first


def test_the_ablations_of_the_model_work_too(models, make_batch):
    """DPFEM behind the tower, and a last block that is read twice for the value path."""
    folder = models["timm_vit"].name
    torch.manual_seed(0)
    model = ImageTextModel(folder, dpfem=DPFEM, patch_path="value_value").eval()
    torch.nn.init.constant_(model.dpfem.scale, 0.1)
    images, texts = make_batch(model, 2)
    for method in [*METHODS, DPFEMSimilarity()]:
        result = method(model, images, texts, keys=KEYS[:2])
        assert torch.isfinite(result.maps).all()
        assert hooks(model) == 0
    with pytest.raises(ValueError, match="no DPFEM"):
        DPFEMSimilarity()(models["small"], *make_batch(models["small"], 1), keys=KEYS[:1])


def test_noise_belongs_to_the_key():
    assert torch.equal(keyed_noise("a", 0, (2, 3)), keyed_noise("a", 0, (2, 3)))
    assert not torch.equal(keyed_noise("a", 0, (2, 3)), keyed_noise("b", 0, (2, 3)))
    assert not torch.equal(keyed_noise("a", 0, (2, 3)), keyed_noise("a", 1, (2, 3)))
    drawn = keyed_noise("a", 0, (200, 200))
    assert abs(float(drawn.mean())) < 0.02
    assert abs(float(drawn.std()) - 1) < 0.02


def test_bad_arguments_are_named(models, make_batch):
    model = models["small"]
    images, texts = make_batch(model, 2)
    method = PatchTextSimilarity()
    cases = [
        ((images, texts[:, :-1]), KEYS[:2], "text_embeddings must be"),
        ((images, texts[:0]), KEYS[:2], "no prompt"),
        ((images, texts), KEYS, "keys"),
        ((images[0], texts), KEYS[:2], "images must be"),
        ((images, texts.expand(3, -1, -1)), KEYS[:2], "text_embeddings must be"),
    ]
    for arguments, keys, message in cases:
        with pytest.raises(ValueError, match=message):
            method(model, *arguments, keys=keys)
    with pytest.raises(ValueError, match=r"'nowhere'.*it has: clip\.visual"):
        GradCAM(layer="nowhere")(model, images, texts, keys=KEYS[:2])
    model.train()
    try:
        with pytest.raises(ValueError, match="eval"):
            method(model, images, texts, keys=KEYS[:2])
    finally:
        model.eval()


def test_an_image_with_nan_is_named(models, make_batch):
    model = models["small"]
    images, texts = make_batch(model, 2)
    images[1, 0, 5, 5] = torch.nan
    with pytest.raises(SaliencyError, match="infinity for b:"):
        PatchTextSimilarity()(model, images, texts, keys=KEYS[:2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GScoreCAM(channels=0), "channels"),
        (lambda: GScoreCAM(chunk_size=0), "chunk_size"),
        (lambda: ScoreCAM(chunk_size=0), "chunk_size"),
        (lambda: M2IB(steps=0), "steps"),
        (lambda: M2IB(beta=-1), "beta"),
        (lambda: M2IB(learning_rate=0), "learning_rate"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_evidence_is_the_logit_of_the_window_loss(make_batch):
    torch.manual_seed(0)
    model = ImageTextModel("small", patch_tower=PatchTower).eval()
    images, texts = make_batch(model, 2)
    found = PatchTextEvidence(scale=2.0, sharpness=5.0)(model, images, texts, keys=KEYS[:2])
    with torch.no_grad():
        patches = model.patch_tower(images)
        targets = torch.ones(2, len(texts), dtype=torch.int8)
        loss = PresenceLoss(sharpness=5.0, scale=2.0)(patches, texts, targets)
    torch.testing.assert_close(found.maps, 2 * torch.einsum("bdhw,pd->bphw", patches, texts))
    torch.testing.assert_close(-found.scores.log().mean(), loss)
    assert (found.scores <= found.maps.amax(dim=(2, 3)).sigmoid()).all()


def test_evidence_needs_a_tower_for_patches(models, make_batch):
    images, texts = make_batch(models["small"], 1)
    with pytest.raises(ValueError, match="patch_tower"):
        PatchTextEvidence()(models["small"], images, texts, keys=KEYS[:1])


def test_evidence_with_dpfem_needs_it_on_the_patch_tower(make_batch):
    torch.manual_seed(0)
    without = ImageTextModel("small", patch_tower=PatchTower).eval()
    images, texts = make_batch(without, 1)
    for model, missing in ((without, "no DPFEM"), (ImageTextModel("small", dpfem=DPFEM).eval(), "patch_tower")):
        with pytest.raises(ValueError, match=missing):
            DPFEMEvidence()(model, images, texts, keys=KEYS[:1])
    refined = ImageTextModel("small", patch_tower=PatchTower, dpfem=DPFEM).eval()
    torch.nn.init.constant_(refined.patch_dpfem.scale, 0.1)
    found = DPFEMEvidence()(refined, images, texts, keys=KEYS[:1]).maps
    torch.testing.assert_close(found, PatchTextEvidence()(refined, images, texts, keys=KEYS[:1]).maps)
    torch.nn.init.zeros_(refined.patch_dpfem.scale)
    assert (found - PatchTextEvidence()(refined, images, texts, keys=KEYS[:1]).maps).abs().max() > 1e-3


@pytest.mark.parametrize(("looks", "patch_px"), [(1, 8), (2, 8), (4, 8), (3, 9)])
def test_several_looks_see_what_a_grid_of_overlapping_patches_would(looks, patch_px):
    images = torch.rand(2, 3, 4 * patch_px, 6 * patch_px, generator=torch.Generator().manual_seed(0))

    def mean_of_patch(pictures):
        return F.avg_pool2d(pictures, patch_px)

    found = encode_between_patches(mean_of_patch, images, patch_px, looks)
    margin = (looks - 1) * patch_px // (2 * looks)
    padded = F.pad(images, (margin,) * 4, mode="replicate")
    torch.testing.assert_close(found, F.avg_pool2d(padded, patch_px, stride=patch_px // looks))
    assert found.shape == (2, 3, 4 * looks, 6 * looks)


def test_looks_between_pixels_are_refused():
    with pytest.raises(ValueError, match="3 shifts of patches of 8 pixels"):
        encode_between_patches(torch.abs, torch.rand(1, 3, 16, 16), 8, 3)
    with pytest.raises(ValueError, match="looks must be at least 1"):
        PatchTextEvidence(looks=0)
