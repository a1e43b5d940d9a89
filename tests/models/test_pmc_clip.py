from pathlib import Path

import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet
from torch.nn import functional as F
from transformers import BertModel

from medzeroseg.imaging.errors import InputError
from medzeroseg.models import ImageTextModel
from tests.helpers.fake_models import bert_config, write_json, write_pmc_clip_folder


def load(path: Path):
    return torch.load(path, weights_only=True)


def test_embeddings_are_those_of_the_authors_encoders(tmp_path: Path) -> None:
    folder = write_pmc_clip_folder(tmp_path)
    model = ImageTextModel(f"pmc-clip:{folder}").eval()
    images = torch.randn(2, 3, 64, 64)

    encoder = ModifiedResNet([1, 1, 1, 1], output_dim=64, heads=4, image_size=64, width=8).eval()
    encoder.load_state_dict(load(folder / "image_encoder(resnet50).pth"))
    torch.testing.assert_close(model.encode_image(images), F.normalize(encoder(images), dim=-1))

    # as the authors encode text: 77 tokens, no attention mask, class token, matrix from the right
    text_state = load(folder / "text_encoder.pth")
    bert = BertModel(bert_config(len(text_state["embeddings.word_embeddings.weight"]), 64, 2, 256, 512)).eval()
    bert.load_state_dict(text_state)
    tokens = model.tokenizer(["liver", "lungs and heart"])
    assert tokens.shape == (2, 77)
    hidden = bert(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state[:, 0]
    expected = F.normalize(hidden @ load(folder / "text_projection_layer.pth"), dim=-1)
    torch.testing.assert_close(model.encode_text(tokens), expected, atol=1e-6, rtol=1e-5)
    assert model.logit_scale.log().item() == pytest.approx(4.4292)


def test_the_training_checkpoint_gives_the_same_model_and_its_own_scale(tmp_path: Path) -> None:
    parts = ImageTextModel(f"pmc-clip:{write_pmc_clip_folder(tmp_path / 'parts')}").eval()
    whole = ImageTextModel(f"pmc-clip:{write_pmc_clip_folder(tmp_path / 'whole', checkpoint=True)}").eval()
    images, tokens = torch.randn(1, 3, 64, 64), parts.tokenizer(["liver"])
    torch.testing.assert_close(parts.encode_image(images), whole.encode_image(images))
    torch.testing.assert_close(parts.encode_text(tokens), whole.encode_text(tokens))
    assert whole.logit_scale.log().item() == pytest.approx(3.0)


def test_heads_can_be_overridden_because_no_weight_shows_them(tmp_path: Path) -> None:
    folder = write_pmc_clip_folder(tmp_path)
    assert ImageTextModel(f"pmc-clip:{folder}").clip.visual.attnpool.num_heads == 4
    write_json(folder / "open_clip_config.json", {"model_cfg": {"vision_cfg": {"head_width": 128}}})
    assert ImageTextModel(f"pmc-clip:{folder}").clip.visual.attnpool.num_heads == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text_encoder.pth", r"missing: text_encoder\.pth"),
        ("vocab.txt", "has no tokenizer: copy vocab.txt"),
    ],
)
def test_missing_files_are_named(tmp_path: Path, name: str, message: str) -> None:
    folder = write_pmc_clip_folder(tmp_path)
    (folder / name).unlink()
    with pytest.raises(InputError, match=message):
        ImageTextModel(f"pmc-clip:{folder}")


def test_other_weights_are_refused(tmp_path: Path) -> None:
    folder = write_pmc_clip_folder(tmp_path, checkpoint=True)
    torch.save({"state_dict": {"module.weight": torch.zeros(2)}}, folder / "checkpoint.pt")
    with pytest.raises(InputError, match="not PMC-CLIP's"):
        ImageTextModel(f"pmc-clip:{folder}")
    with pytest.raises(InputError, match="no PMC-CLIP folder"):
        ImageTextModel(f"pmc-clip:{tmp_path / 'nowhere'}")


def test_another_image_size_is_refused(tmp_path: Path) -> None:
    folder = write_pmc_clip_folder(tmp_path)
    with pytest.raises(InputError, match="positional_embedding"):
        ImageTextModel(f"pmc-clip:{folder}", image_size_px=96)
