"""The last block without its mixing, against the formulas written out head by head."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from medzeroseg.models import ImageTextModel

PATHS = ("value", "value_value")


def _by_hand(tokens: Tensor, parts: dict[str, object], path: str) -> Tensor:
    """The block's output from the tokens that enter it."""
    values = F.linear(parts["norm1"](tokens), parts["weight"], parts["bias"])
    mixed = torch.empty_like(values)
    size = values.shape[-1] // parts["heads"]
    for n in range(len(tokens)):
        for head in range(parts["heads"]):
            v = values[n, :, head * size : (head + 1) * size]
            for i in range(len(v)):
                weights = torch.softmax(v @ v[i] / size**0.5, dim=0)
                mixed[n, i, head * size : (head + 1) * size] = v[i] if path == "value" else weights @ v
    out = tokens + parts["project"](mixed)
    return out if path == "value_value" else out + parts["mlp"](parts["norm2"](out))


def _entering(model: ImageTextModel, block: torch.nn.Module, images: Tensor) -> Tensor:
    captured: list[Tensor] = []
    handle = block.register_forward_pre_hook(lambda _m, inputs: captured.append(inputs[0]))
    model.encode_image(images)
    handle.remove()
    return captured[0]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("family", ["biomedclip", "clip"])
def test_patches_are_those_of_the_definition(model_names: dict[str, str], family: str, path: str) -> None:
    model = ImageTextModel(model_names[family], patch_path=path).eval()
    images = torch.randn(2, 3, *model.image_size_px, generator=torch.Generator().manual_seed(0))
    visual = model.clip.visual
    with torch.no_grad():
        if family == "biomedclip":
            block = visual.trunk.blocks[-1]
            width = visual.trunk.embed_dim
            parts = {
                "weight": block.attn.qkv.weight[2 * width :],
                "bias": block.attn.qkv.bias[2 * width :],
                "heads": block.attn.num_heads,
                "project": block.attn.proj,
                "mlp": block.mlp,
                "norm1": block.norm1,
                "norm2": block.norm2,
            }
            tokens = visual.trunk.norm(_by_hand(_entering(model, block, images), parts, path))
            expected = tokens[:, 1:] @ visual.head.proj.weight.T
        else:
            block = visual.transformer.resblocks[-1]
            width = visual.transformer.width
            parts = {
                "weight": block.attn.in_proj_weight[2 * width :],
                "bias": block.attn.in_proj_bias[2 * width :],
                "heads": block.attn.num_heads,
                "project": block.attn.out_proj,
                "mlp": block.mlp,
                "norm1": block.ln_1,
                "norm2": block.ln_2,
            }
            expected = visual.ln_post(_by_hand(_entering(model, block, images), parts, path))[:, 1:] @ visual.proj
        found = model.encode_patches(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", ["biomedclip", "clip"])
def test_the_embedding_stays_and_the_patches_change(model_names: dict[str, str], family: str) -> None:
    plain = ImageTextModel(model_names[family]).eval()
    images = torch.randn(2, 3, *plain.image_size_px)
    seen = [plain.encode_patches(images)]
    for path in PATHS:
        other = ImageTextModel(model_names[family], patch_path=path).eval()
        assert torch.equal(other.encode_image(images), plain.encode_image(images))
        found = other.encode_patches(images)
        assert found.isfinite().all()
        assert all((found - before).abs().max() > 1e-3 for before in seen)
        seen.append(found)


def test_value_alone_lets_no_patch_see_the_last_mixing(model_names: dict[str, str]) -> None:
    """What enters the last block at one place reaches the patch feature of that place only."""
    model = ImageTextModel(model_names["clip"], patch_path="value").eval()
    block = model.clip.visual.transformer.resblocks[-1]
    images = torch.randn(1, 3, *model.image_size_px)
    columns = model.patch_grid[1]

    def disturb(_module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        moved = inputs[0].clone()
        moved[:, 1 + columns + 2] += torch.randn(moved.shape[-1])
        return (moved, *inputs[1:])

    before = model.encode_patches(images)
    handle = block.register_forward_pre_hook(disturb)  # runs before the tower's own hook, which sees its result
    after = model.encode_patches(images)
    handle.remove()
    changed = (after - before).abs().amax(dim=1)[0] > 1e-5
    assert changed.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("family", ["small", "pmc_clip"])
def test_towers_without_attention_blocks_refuse_it(model_names: dict[str, str], family: str) -> None:
    with pytest.raises(ValueError, match="patch_path 'value' is for vision transformers"):
        ImageTextModel(model_names[family], patch_path="value")


def test_an_unknown_path_is_refused(model_names: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="patch_path must be"):
        ImageTextModel(model_names["clip"], patch_path="query")
