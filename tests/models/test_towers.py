import pytest
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, _build_text_tower, _build_vision_tower
from torch import nn

from medzeroseg.imaging.errors import InputError
from medzeroseg.models.image_towers import adapt_image_tower
from medzeroseg.models.text_towers import HFTextTower, adapt_text_tower

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
