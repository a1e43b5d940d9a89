"""DPFEM against its equations, and in the image tower."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from medzeroseg.models import DPFEM, ImageTextModel, PatchTower

VARIANTS = [
    {"fusion": "gated"},
    {"fusion": "concat"},
    {"paths": "local"},
    {"paths": "global"},
]


def _seeded(**options: object) -> DPFEM:
    torch.manual_seed(0)
    return DPFEM(6, 5, width=8, **options).double()


def _pointwise(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], x) + conv.bias[:, None, None]


def _by_hand(module: DPFEM, x: Tensor) -> Tensor:
    """Equations 6-9 position by position, in plain sums."""
    batch, _, rows, columns = x.shape
    mean, variance = x.mean(dim=(1, 2, 3), keepdim=True), x.var(dim=(1, 2, 3), keepdim=True, unbiased=False)
    x = (x - mean) / (variance + module.norm.eps).sqrt()
    f0 = _pointwise(module.reduce, x * module.norm.weight[:, None, None] + module.norm.bias[:, None, None])
    found = []
    if module.local_path is not None:
        depthwise, pointwise, _ = module.local_path
        smoothed = torch.zeros_like(f0)
        for row in range(rows):
            for column in range(columns):
                for i in (-1, 0, 1):
                    for j in (-1, 0, 1):
                        if 0 <= row + i < rows and 0 <= column + j < columns:
                            weight = depthwise.weight[:, 0, i + 1, j + 1]
                            smoothed[:, :, row, column] += weight * f0[:, :, row + i, column + j]
        linear = _pointwise(pointwise, smoothed + depthwise.bias[:, None, None])
        found.append(linear * linear.sigmoid())
    if module.global_path is not None:
        shsa = module.global_path
        attended, passed = f0[:, :2], f0[:, 2:]
        centre = attended.mean(dim=(1, 2, 3), keepdim=True)
        spread = attended.var(dim=(1, 2, 3), keepdim=True, unbiased=False)
        normed = (attended - centre) / (spread + shsa.norm.eps).sqrt()
        query, key, value = _pointwise(shsa.qkv, normed).flatten(2).split([16, 16, 2], dim=1)
        mixed = torch.zeros_like(value)
        for n in range(batch):
            for p in range(rows * columns):
                weights = torch.softmax(query[n, :, p] @ key[n] / 16**0.5, dim=0)
                mixed[n, :, p] = (weights * value[n]).sum(dim=1)
        both = torch.cat([mixed.reshape(attended.shape), passed], dim=1)
        found.append(_pointwise(shsa.project[1], both * both.sigmoid()))
    if module.gate is not None:
        gate = torch.sigmoid(_pointwise(module.gate[0], torch.cat(found, dim=1)))
        found = [gate * found[0], (1 - gate) * found[1]]
    return _pointwise(module.fuse, torch.cat(found, dim=1))


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("grid", [(4, 3), (1, 1)])
def test_it_computes_its_equations(options: dict[str, str], grid: tuple[int, int]) -> None:
    module = _seeded(**options)
    x = torch.randn(2, 6, *grid, dtype=torch.float64)
    torch.testing.assert_close(module(x), _by_hand(module, x))


def test_the_local_path_sees_a_neighbourhood_and_the_global_path_everything() -> None:
    reach = {}
    for paths in ("local", "global"):
        module = _seeded(paths=paths)
        module.norm = nn.Identity()  # it looks at the whole grid in both
        x = torch.randn(1, 6, 9, 9, dtype=torch.float64, requires_grad=True)
        module(x)[0, :, 4, 4].square().sum().backward()
        reach[paths] = int((x.grad.abs().sum(dim=1) > 0).sum())
    assert reach == {"local": 9, "global": 81}


def test_every_parameter_takes_part() -> None:
    for options in VARIANTS:
        module = _seeded(**options)
        (module.scale[:, None, None] * module(torch.randn(2, 6, 3, 3, dtype=torch.float64))).sum().backward()
        assert [name for name, parameter in module.named_parameters() if parameter.grad is None] == []
        assert (module.scale.grad != 0).all(), "the scale must be able to leave 0"


@pytest.mark.parametrize(
    ("argument", "value"),
    [("width", 2), ("kernel_size", 4), ("kernel_size", 0), ("fusion", "sum"), ("paths", "none")],
)
def test_bad_arguments_are_named(argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=argument):
        DPFEM(4, 4, **{argument: value})


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("family", ["small", "biomedclip", "clip", "pmc_clip"])
def test_step_0_reproduces_the_embeddings_exactly(
    model_names: dict[str, str], family: str, options: dict[str, str]
) -> None:
    torch.manual_seed(0)
    plain = ImageTextModel(model_names[family]).eval()
    torch.manual_seed(0)
    refined = ImageTextModel(model_names[family], dpfem=partial(DPFEM, **options)).eval()
    refined.clip.load_state_dict(plain.clip.state_dict())
    images = torch.randn(2, 3, *plain.image_size_px)
    assert torch.equal(refined.encode_image(images), plain.encode_image(images))
    assert torch.equal(refined.encode_patches(images), plain.encode_patches(images))


def test_a_trained_scale_moves_embedding_and_patches_alike(model_names: dict[str, str]) -> None:
    torch.manual_seed(0)
    model = ImageTextModel("small", dpfem=DPFEM).eval()
    images = torch.randn(2, 3, *model.image_size_px)
    before = model.encode_image(images)
    with torch.no_grad():
        model.dpfem.scale.normal_()
    features = model.image_features(images)
    assert (model.encode_image(images) - before).abs().max() > 1e-3
    # both are added to, so the mean of the patches stays the embedding where the tower averages
    torch.testing.assert_close(model.encode_patches(images).mean(dim=(2, 3)), features.pooled)
    fused = model.dpfem(features.patches)
    torch.testing.assert_close(model.dense_features(images), fused)
    plain = model._image_tower.project(features.patches)
    torch.testing.assert_close(
        model.project_patches(features.patches), plain + model.dpfem.scale[:, None, None] * fused
    )


def test_both_outputs_of_one_pass_are_those_of_two(model: ImageTextModel, images: Tensor) -> None:
    torch.manual_seed(0)
    for dpfem in (None, DPFEM(model._image_tower.patch_channels, model.embedding_dim)):
        original, model.dpfem = model.dpfem, dpfem
        if dpfem is not None:
            torch.nn.init.normal_(dpfem.scale)
        try:
            embedding, patches = model.encode_image_and_patches(images)
            torch.testing.assert_close(embedding, model.encode_image(images))
            torch.testing.assert_close(patches, model.encode_patches(images))
            assert model.dense_features(images).shape == (2, model.embedding_dim, *model.patch_grid)
        finally:
            model.dpfem = original


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_step_0_with_a_patch_tower_reproduces_embeddings_and_evidence_exactly(options: dict[str, str]) -> None:
    models = []
    for dpfem in (None, partial(DPFEM, **options)):
        torch.manual_seed(0)
        models.append(ImageTextModel("small", patch_tower=PatchTower, dpfem=dpfem).eval())
    plain, refined = models  # of one seed: DPFEM is drawn after everything else
    images = torch.randn(2, 3, *plain.image_size_px)
    assert torch.equal(refined.encode_image(images), plain.encode_image(images))
    assert torch.equal(refined.encode_patches(images), plain.encode_patches(images))


def test_each_grid_of_a_model_with_a_patch_tower_has_its_own_dpfem() -> None:
    torch.manual_seed(0)
    model = ImageTextModel("small", patch_tower=PatchTower, dpfem=DPFEM).eval()
    images = torch.randn(2, 3, 64, 64)
    embedding, patches = model.encode_image(images), model.encode_patches(images)
    grid = model.patch_tower.grid_features(images)
    torch.testing.assert_close(model.dense_features(images), model.patch_dpfem(grid))
    with torch.no_grad():
        model.patch_dpfem.scale.normal_()
    added = model.patch_dpfem.scale[:, None, None] * model.patch_dpfem(grid)
    torch.testing.assert_close(model.encode_patches(images), patches + added)
    assert torch.equal(model.encode_image(images), embedding), "windows must not move the embedding"
    with torch.no_grad():
        model.dpfem.scale.normal_()
    torch.testing.assert_close(model.encode_patches(images), patches + added)
    assert (model.encode_image(images) - embedding).abs().max() > 1e-3
    both = model.encode_image_and_patches(images)
    torch.testing.assert_close(both, (model.encode_image(images), model.encode_patches(images)))


def test_pairs_and_windows_each_train_the_dpfem_of_their_grid() -> None:
    torch.manual_seed(0)
    model = ImageTextModel("small", patch_tower=PatchTower, dpfem=DPFEM)
    images = torch.randn(2, 3, 64, 64)
    texts = torch.randn(model.embedding_dim)
    (model.encode_image(images) @ texts).sum().backward()
    assert (model.dpfem.scale.grad != 0).any()
    assert model.patch_dpfem.scale.grad is None
    model.zero_grad()
    torch.einsum("bdhw,d->", model.encode_patches(images), texts).backward()
    assert (model.patch_dpfem.scale.grad != 0).any()
    assert model.dpfem.scale.grad is None
