import copy
import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from medzeroseg.models import MAX_LOGIT_SCALE, ImageTextModel

CAPTIONS = [
    "Chest X-ray showing the lungs",
    "liver",
    "axial CT of the abdomen: liver, spleen and left kidney",
]


def test_embeddings_are_those_of_open_clip(model: ImageTextModel, images: Tensor) -> None:
    tokens = model.tokenizer(CAPTIONS)
    image, text, scale = model(images, tokens)
    assert image.shape == (2, model.embedding_dim)
    assert text.shape == (3, model.embedding_dim)
    torch.testing.assert_close(image, model.clip.encode_image(images, normalize=True), atol=1e-6, rtol=0)
    torch.testing.assert_close(scale, model.clip.logit_scale.exp())
    torch.testing.assert_close(image.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(text.norm(dim=-1), torch.ones(3))
    assert (text[0] - text[1]).norm() > 1e-3


def test_leaving_out_the_padding_changes_nothing(model: ImageTextModel, request: pytest.FixtureRequest) -> None:
    words = ["axial", "CT", "of", "the", "liver", "and", "the", "spleen", "with", "contrast"]
    captions = [" ".join(words[: 1 + (7 * i) % 10] * (1 + i % 4)) for i in range(37)]
    tokens = model.tokenizer(captions)
    shapes, lookups = [], []
    tower = model._text_tower
    run, tower.run = tower.run, lambda words, ids: (shapes.append(tuple(ids.shape)), run(words, ids))[1]
    look_up, tower.look_up = tower.look_up, lambda ids: (lookups.append(len(ids)), look_up(ids))[1]
    try:
        embeddings = model.encode_text(tokens)
    finally:
        del tower.run, tower.look_up
    assert lookups == [37]  # once for all groups
    cells = sum(rows * columns for rows, columns in shapes)
    assert sum(rows for rows, _ in shapes) == 37
    if "pmc_clip" in request.node.name:  # its padding takes part in the attention: nothing may be left out
        assert cells == tokens.numel()
        untrimmed = F.normalize(tower.forward(tokens), dim=-1)
    else:
        assert cells < 0.5 * tokens.numel()
        untrimmed = model.clip.encode_text(tokens, normalize=True)
    torch.testing.assert_close(embeddings, untrimmed, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.encode_text(tokens[1:2]), untrimmed[1:2], atol=1e-6, rtol=0)
    assert torch.pdist(embeddings).max() > 1e-2


def test_gradients_are_those_of_the_padded_batch(model_names: dict[str, str]) -> None:
    model = ImageTextModel(model_names["biomedclip"]).eval()
    tokens = model.tokenizer(["liver " * (1 + 3 * i) for i in range(20)])
    parameters = [model.clip.text.proj[0].weight, model.clip.text.transformer.embeddings.word_embeddings.weight]
    target = torch.randn(20, model.embedding_dim)
    grouped = torch.autograd.grad((model.encode_text(tokens) * target).sum(), parameters)
    padded = torch.autograd.grad((model.clip.encode_text(tokens, normalize=True) * target).sum(), parameters)
    torch.testing.assert_close(grouped, padded, atol=1e-5, rtol=1e-4)


def test_a_caption_that_fills_the_context_keeps_its_end(model: ImageTextModel) -> None:
    tokens = model.tokenizer(["liver " * 400, "liver"])
    assert int(model._text_tower.used_lengths(tokens)[0]) == tokens.shape[1]
    assert int(tokens[0, -1]) == int(tokens[1][tokens[1] != model.tokenizer.pad_id][-1])
    assert model.encode_text(tokens).isfinite().all()


def test_no_captions_give_no_embeddings(model: ImageTextModel) -> None:
    assert model.encode_text(model.tokenizer([])).shape == (0, model.embedding_dim)


def test_patches_have_the_grid_and_the_joint_dimension(model: ImageTextModel, images: Tensor) -> None:
    patches = model.encode_patches(images)
    assert patches.shape == (2, model.embedding_dim, *model.patch_grid)


def test_mean_of_the_patches_is_the_embedding_where_the_tower_averages() -> None:
    torch.manual_seed(0)
    model = ImageTextModel("small").double()
    images = torch.randn(3, 3, 128, 96, dtype=torch.float64)  # any size of the stride suits this trunk
    features = model.image_features(images)
    assert model.encode_patches(images).shape == (3, 128, 8, 6)
    torch.testing.assert_close(model.encode_patches(images).mean(dim=(2, 3)), features.pooled)
    torch.testing.assert_close(model.project_patches(features.patches).mean(dim=(2, 3)), features.pooled)


def test_patches_of_a_timm_vit_are_the_normed_and_projected_last_tokens(model_names: dict[str, str]) -> None:
    model = ImageTextModel(model_names["biomedclip"]).eval()
    images = torch.randn(2, 3, *model.image_size_px)
    captured = []
    trunk = model.clip.visual.trunk
    handle = trunk.blocks[-1].register_forward_hook(lambda _m, _i, out: captured.append(out))
    patches = model.encode_patches(images)
    handle.remove()
    expected = trunk.norm(captured[0])[:, 1:] @ model.clip.visual.head.proj.weight.T
    rows, columns = model.patch_grid
    for row, column in ((0, 0), (0, columns - 1), (rows - 1, 2)):
        torch.testing.assert_close(patches[:, :, row, column], expected[:, row * columns + column])


def test_patches_of_clips_vit_are_the_normed_and_projected_last_tokens(model_names: dict[str, str]) -> None:
    model = ImageTextModel(model_names["clip"]).eval()
    images = torch.randn(2, 3, *model.image_size_px)
    visual = model.clip.visual
    tokens = visual.ln_post(visual.transformer(visual._embeds(images))) @ visual.proj
    expected = tokens[:, 1:].reshape(2, *model.patch_grid, -1).permute(0, 3, 1, 2)
    torch.testing.assert_close(model.encode_patches(images), expected)


def test_patches_of_an_attention_pool_average_to_the_embedding_when_attention_is_uniform(
    model_names: dict[str, str],
) -> None:
    model = ImageTextModel(model_names["pmc_clip"]).eval().double()
    pool = model.clip.visual.attnpool
    torch.nn.init.zeros_(pool.q_proj.weight)
    torch.nn.init.zeros_(pool.q_proj.bias)
    images = torch.randn(2, 3, *model.image_size_px, dtype=torch.float64)
    features = model.image_features(images)
    patches = model.project_patches(features.patches).flatten(2)
    mean_token = features.patches.mean(dim=(2, 3)) + pool.positional_embedding[0]
    values = torch.cat([pool.c_proj(pool.v_proj(mean_token))[..., None], patches], dim=2)
    torch.testing.assert_close(values.mean(dim=2), features.pooled)


def test_saliency_layers_have_the_gradients_that_they_promise(model: ImageTextModel, images: Tensor) -> None:
    text = model.encode_text(model.tokenizer(["liver", "liver"])).detach()
    outputs: dict[str, Tensor] = {}
    layers = model.saliency_layers
    handles = [
        model.get_submodule(layer.name).register_forward_hook(
            lambda _m, _i, out, name=layer.name: outputs.__setitem__(name, out)
        )
        for layer in layers
    ]
    score = (model.encode_image(images.clone().requires_grad_()) * text).sum()
    for handle in handles:
        handle.remove()
    gradients = torch.autograd.grad(score, [outputs[layer.name] for layer in layers])
    for layer, gradient in zip(layers, gradients, strict=True):
        if layer.kind == "tokens":
            rows, columns = model.patch_grid
            assert gradient.shape == (2, layer.prefix_tokens + rows * columns, layer.channels), layer
            gradient = gradient[:, layer.prefix_tokens :]
        else:
            assert gradient.shape[:2] == (2, layer.channels), layer
            assert gradient.ndim == 4
        if layer.safe:
            assert (gradient.abs().sum(dim=(1, 2) if layer.kind == "tokens" else (1, 2, 3)) > 0).all(), layer
        else:
            assert (gradient == 0).all(), layer


def test_class_token_towers_name_the_trap_and_its_neighbours(model_names: dict[str, str]) -> None:
    layers = {layer.name: layer.safe for layer in ImageTextModel(model_names["biomedclip"]).saliency_layers}
    last = "clip.visual.trunk.blocks.5"
    assert layers[f"{last}.norm1"]
    assert layers["clip.visual.trunk.blocks.4"]
    assert not layers[f"{last}.norm2"]
    assert not layers[last]


def test_logit_scale_is_capped_and_can_come_back_down() -> None:
    model = ImageTextModel("small", init_logit_scale=20.0)
    assert model.logit_scale.item() == pytest.approx(20.0)
    parameter = model.clip.logit_scale
    (gradient,) = torch.autograd.grad(model.logit_scale * 3, parameter)
    assert gradient.item() == pytest.approx(60.0)
    with torch.no_grad():
        parameter.fill_(math.log(150.0))
    assert model.logit_scale.item() == MAX_LOGIT_SCALE
    (down,) = torch.autograd.grad(model.logit_scale, parameter)  # descent lowers the scale
    (up,) = torch.autograd.grad(-model.logit_scale, parameter)
    assert down.item() == pytest.approx(100.0)
    assert up.item() == 0.0


@pytest.mark.parametrize("value", [0.0, -1.0, 100.5])
def test_an_initial_logit_scale_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="init_logit_scale"):
        ImageTextModel("small", init_logit_scale=value)


def test_embeddings_stay_float32_under_autocast(model: ImageTextModel, images: Tensor) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image, text, scale = model(images, model.tokenizer(CAPTIONS))
    assert image.dtype == text.dtype == scale.dtype == torch.float32
    torch.testing.assert_close(image.norm(dim=-1), torch.ones(2))


def test_every_trainable_parameter_gets_a_gradient(model: ImageTextModel, images: Tensor) -> None:
    model = copy.deepcopy(model).train()
    image, text, scale = model(images, model.tokenizer(["liver", "lungs"]))
    (scale * F.cross_entropy(scale * image @ text.T, torch.arange(2))).backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert without == []  # a parameter without one would stop distributed training


def test_state_dict_is_plain_tensors_and_restores_the_model(model: ImageTextModel, images: Tensor) -> None:
    state = model.state_dict()
    assert all(type(value) is Tensor for value in state.values())
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    assert (other.encode_image(images) - model.encode_image(images)).norm() > 1e-3  # an own copy, towers included
    other.load_state_dict(state)
    tokens = model.tokenizer(CAPTIONS)
    torch.testing.assert_close(other.encode_image(images), model.encode_image(images))
    torch.testing.assert_close(other.encode_text(tokens), model.encode_text(tokens))


def test_signature_tells_architectures_apart_and_ignores_weights(model_names: dict[str, str]) -> None:
    signatures = {family: ImageTextModel(name).signature for family, name in model_names.items()}
    assert len(set(signatures.values())) == len(signatures)
    assert ImageTextModel("small").signature == signatures["small"]
    assert ImageTextModel("small", freeze_image_layers=1).signature == signatures["small"]
    assert "LocalConvNet" in signatures["small"]


def test_gradient_checkpointing_leaves_the_gradients_as_they_are(
    model: ImageTextModel, images: Tensor, request: pytest.FixtureRequest
) -> None:
    gradients = []
    for enable in (False, True):
        copied = copy.deepcopy(model).train()
        for module in copied.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if enable and "pmc_clip" in request.node.name:
            with pytest.raises(ValueError, match="ModifiedResNet cannot checkpoint"):
                copied.towers["image"].set_grad_checkpointing(True)
            return
        for tower in copied.towers.values():
            tower.set_grad_checkpointing(enable)
        image, text, _ = copied(images, copied.tokenizer(["liver", "lungs"]))
        (image * text).sum().backward()
        gradients.append([parameter.grad for parameter in copied.parameters() if parameter.grad is not None])
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-6, rtol=1e-4)


def test_frozen_layers_are_the_first_ones(model_names: dict[str, str]) -> None:
    model = ImageTextModel(model_names["biomedclip"], freeze_image_layers=3)
    trunk = model.clip.visual.trunk
    assert not trunk.patch_embed.proj.weight.requires_grad
    assert not trunk.pos_embed.requires_grad
    assert not trunk.blocks[1].mlp.fc1.weight.requires_grad
    assert trunk.blocks[2].mlp.fc1.weight.requires_grad
    assert all(parameter.requires_grad for parameter in model.clip.text.parameters())
    with pytest.raises(ValueError, match="cannot freeze 9 layers of LocalConvNet, which has 4"):
        ImageTextModel("small", freeze_image_layers=9)


@pytest.mark.parametrize(
    ("family", "size", "grid"), [("biomedclip", 96, (6, 6)), ("clip", 96, (6, 6)), ("small", 96, (6, 6))]
)
def test_another_image_size(model_names: dict[str, str], family: str, size: int, grid: tuple[int, int]) -> None:
    model = ImageTextModel(model_names[family], image_size_px=size)
    assert model.image_size_px == (size, size)
    assert model.patch_grid == grid
    assert model.encode_patches(torch.randn(1, 3, size, size)).shape[2:] == grid
    assert model.image_transform().preprocess.size == (size, size)


def test_shorter_contexts_cut_captions_and_longer_ones_are_refused(model_names: dict[str, str]) -> None:
    model = ImageTextModel(model_names["biomedclip"], context_length=8)
    tokens = model.tokenizer(["the liver and the spleen and the left kidney"])
    assert tokens.shape == (1, 8)
    assert model.encode_text(tokens).shape == (1, 32)
    with pytest.raises(ValueError, match="context_length 300"):
        ImageTextModel(model_names["biomedclip"], context_length=300)


def test_wrong_shapes_are_refused_with_advice(model_names: dict[str, str]) -> None:
    model = ImageTextModel(model_names["biomedclip"])
    with pytest.raises(ValueError, match="160 x 160 pixels"):
        model.encode_image(torch.zeros(1, 3, 100, 160))
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        model.encode_image(torch.zeros(3, 160, 160))
    with pytest.raises(ValueError, match="at most 256"):
        model.encode_text(torch.zeros(1, 257, dtype=torch.long))


def test_same_seed_same_small_model() -> None:
    def built() -> dict[str, Tensor]:
        torch.manual_seed(3)
        return ImageTextModel("small").state_dict()

    first, second = built(), built()
    assert all(torch.equal(first[key], second[key]) for key in first)
