import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, _build_text_tower, _build_vision_tower
from torch import nn

from medzeroseg.imaging.errors import InputError
from medzeroseg.models.image_towers import adapt_image_tower
from medzeroseg.models.text_towers import HFTextTower, adapt_text_tower, cheapest_groups

SMALL_VIT = {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"timm_model_name": "test_resnet", "image_size": 64}, "image tower ResNet is not supported"),
        ({**SMALL_VIT, "attentional_pool": True}, "attentional pooling"),
    ],
)
def test_image_towers_without_an_adapter_are_refused(config: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        adapt_image_tower(_build_vision_tower(16, CLIPVisionCfg(**config)))


def test_text_towers_without_an_adapter_are_refused() -> None:
    with pytest.raises(InputError, match="CoCa"):
        adapt_text_tower(_build_text_tower(16, CLIPTextCfg(layers=1, width=64, heads=1, embed_cls=True)))
    with pytest.raises(InputError, match="text tower Linear is not supported"):
        adapt_text_tower(nn.Linear(2, 2))


def test_average_pooled_transformers_have_no_unsafe_layer() -> None:
    tower = adapt_image_tower(_build_vision_tower(16, CLIPVisionCfg(**SMALL_VIT, pool_type="avg")))
    assert all(layer.safe for layer in tower.saliency_layers(""))


def test_an_encoder_whose_layers_are_not_known_is_named() -> None:
    text = nn.Module()
    text.transformer = nn.Linear(2, 2)
    encoder = HFTextTower(text)
    with pytest.raises(InputError, match="layers of the text tower Linear are not known"):
        encoder.layers()
    assert encoder.freeze("all") == [encoder.text]  # a whole tower needs no layers


def cost(lengths: list[int], sizes: tuple[int, ...], of_a_pass: int) -> int:
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    return sum(size * lengths[end - 1] + of_a_pass for size, end in zip(sizes, ends, strict=True))


def ways(rows: int) -> list[tuple[int, ...]]:
    """Every split of so many rows into groups."""
    return [(n, *rest) for n in range(1, rows) for rest in ways(rows - n)] + [(rows,)]


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=7).map(sorted),
    of_a_pass=st.sampled_from([0, 1, 3, 10, 100]),
)
def test_no_split_of_a_batch_is_cheaper_than_the_chosen_one(lengths: list[int], of_a_pass: int) -> None:
    sizes = cheapest_groups(lengths, of_a_pass)
    assert sum(sizes) == len(lengths)
    assert cost(lengths, tuple(sizes), of_a_pass) == min(cost(lengths, way, of_a_pass) for way in ways(len(lengths)))


def test_one_long_caption_is_encoded_apart() -> None:
    assert cheapest_groups([16] * 60 + [256] * 4, 512) == [60, 4]
    assert cheapest_groups([16] * 60 + [24] * 4, 512) == [64]
