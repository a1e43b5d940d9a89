import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import save_file

from medzeroseg.imaging.errors import InputError
from medzeroseg.models import ImageTextModel, packaged_names
from tests.helpers.fake_models import write_biomedclip_folder, write_clip_folder, write_tokenizer

WEIGHTS = "open_clip_pytorch_model.bin"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # whatever asks the hub fails at once, as on a machine without network and with an empty cache
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path, biomedclip: Path) -> Path:
    return Path(shutil.copytree(biomedclip, tmp_path / "model"))


@pytest.fixture(scope="module")
def biomedclip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_biomedclip_folder(tmp_path_factory.mktemp("sources") / "biomedclip")


def rewrite_config(folder: Path, **text_cfg: object) -> None:
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= text_cfg
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def test_biomedclip_loads_without_the_hub_and_with_every_weight(folder: Path) -> None:
    assert not (folder / "config.json").exists()  # as published: this is what makes plain open_clip ask the hub
    model = ImageTextModel(f"local-dir:{folder}")
    stored = torch.load(folder / WEIGHTS, weights_only=True)
    del stored["text.transformer.embeddings.position_ids"]
    loaded = model.clip.state_dict()
    assert loaded.keys() == stored.keys()
    assert all(torch.equal(loaded[key], stored[key]) for key in stored)
    assert model.clip.text.config.num_attention_heads == 1
    assert model.tokenizer.context_length == 256


def test_inferred_and_stated_bert_configurations_give_the_same_model(tmp_path: Path, folder: Path) -> None:
    stated = write_biomedclip_folder(tmp_path / "stated", safetensors=True, with_bert_config=True)
    first, second = ImageTextModel(f"local-dir:{folder}").eval(), ImageTextModel(f"local-dir:{stated}").eval()
    tokens = first.tokenizer(["liver and spleen"])
    torch.testing.assert_close(first.encode_text(tokens), second.encode_text(tokens))
    assert first.signature == second.signature


def test_a_config_of_something_else_is_not_taken_for_the_bert(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_base_patch16_224", "num_classes": 0}))
    assert ImageTextModel(f"local-dir:{folder}").clip.text.config.model_type == "bert"


def test_code_of_a_repository_is_never_run(tmp_path: Path) -> None:
    folder = write_biomedclip_folder(tmp_path / "model", with_bert_config=True)
    marker = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass C: ...\n")
    for name in ("config.json", "tokenizer_config.json"):
        config = json.loads((folder / name).read_text())
        config["auto_map"] = {
            "AutoConfig": "evil.C",
            "AutoModel": "evil.C",
            "AutoTokenizer": ["evil.C", "evil.C"],
        }
        (folder / name).write_text(json.dumps(config))
    ImageTextModel(f"local-dir:{folder}")
    assert not marker.exists()


class _Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.marker,))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_weights_that_would_run_code_are_refused(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    state = torch.load(folder / WEIGHTS, weights_only=True)
    for content in ({"state_dict": state, "extra": _Malicious(marker)}, _Malicious(marker)):
        torch.save(content, folder / WEIGHTS)
        with pytest.raises(InputError, match=r"refused.*could run code"):
            ImageTextModel(f"local-dir:{folder}")
        (folder / WEIGHTS).write_bytes(pickle.dumps(content["extra"] if isinstance(content, dict) else content))
        with pytest.raises(InputError, match=r"refused|cannot be read"):
            ImageTextModel(f"local-dir:{folder}")
    assert not marker.exists()


def test_no_weights_is_an_error_and_not_a_random_model(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match=r"no weights in .*vocab\.txt"):
        ImageTextModel(f"local-dir:{folder}")


def test_a_truncated_download_is_an_error(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=WEIGHTS):
        ImageTextModel(f"local-dir:{folder}")
    (folder / WEIGHTS).unlink()
    (folder / "open_clip_model.safetensors").write_bytes(content[:1000])
    with pytest.raises(InputError, match=r"open_clip_model\.safetensors cannot be read"):
        ImageTextModel(f"local-dir:{folder}")


def test_weights_that_do_not_fit_are_named(folder: Path) -> None:
    state = torch.load(folder / WEIGHTS, weights_only=True)
    state["visual.surplus"] = state.pop("visual.head.proj.weight")
    state["text.proj.0.weight"] = torch.zeros(3, 3)
    torch.save(state, folder / WEIGHTS)
    with pytest.raises(InputError) as error:
        ImageTextModel(f"local-dir:{folder}")
    for part in (
        "1 missing",
        "visual.head.proj.weight",
        "1 unknown",
        "visual.surplus",
        "text.proj.0.weight is (3, 3)",
    ):
        assert part in str(error.value)


def test_a_list_is_no_state_dict(folder: Path) -> None:
    torch.save([torch.zeros(2)], folder / WEIGHTS)
    with pytest.raises(InputError, match="state dict"):
        ImageTextModel(f"local-dir:{folder}")


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_archive_is_refused_with_advice(folder: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), folder / WEIGHTS)
    with pytest.raises(InputError, match="TorchScript"):
        ImageTextModel(f"local-dir:{folder}")


def test_a_missing_folder_says_how_to_get_the_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model folder .*hf download microsoft/BiomedCLIP"):
        ImageTextModel(f"local-dir:{tmp_path / 'nowhere'}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file .*open_clip_config.json"),
        ("{", "is not JSON"),
        ("[1]", "not a JSON object"),
        ('{"model_cfg": {"embed_dim": 4}}', r"lacks \['vision_cfg', 'text_cfg'\]"),
    ],
)
def test_a_bad_configuration_is_named(folder: Path, content: str | None, message: str) -> None:
    (folder / "open_clip_config.json").unlink()
    if content is not None:
        (folder / "open_clip_config.json").write_text(content)
    with pytest.raises(InputError, match=message):
        ImageTextModel(f"local-dir:{folder}")


def test_an_unknown_key_in_the_configuration_is_named(folder: Path) -> None:
    rewrite_config(folder, surprise=1)
    with pytest.raises(InputError, match=r"not usable.*surprise"):
        ImageTextModel(f"local-dir:{folder}")


def test_a_text_tower_that_cannot_be_inferred_asks_for_its_config(folder: Path) -> None:
    rewrite_config(folder, hf_model_name="FacebookAI/roberta-base")
    with pytest.raises(InputError, match=r"copy config\.json of FacebookAI/roberta-base"):
        ImageTextModel(f"local-dir:{folder}")


def test_a_missing_tokenizer_is_named(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        (folder / name).unlink()
    with pytest.raises(InputError, match=r"has no tokenizer: copy .*vocab\.txt"):
        ImageTextModel(f"local-dir:{folder}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"no usable tokenizer.*vocab\.txt"):
        ImageTextModel(f"local-dir:{folder}")


def test_a_vocabulary_file_alone_is_enough(folder: Path) -> None:
    expected = ImageTextModel(f"local-dir:{folder}").tokenizer(["Chest X-ray, liver 7"])
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink()
    assert torch.equal(ImageTextModel(f"local-dir:{folder}").tokenizer(["Chest X-ray, liver 7"]), expected)


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    write_tokenizer(folder, [f"word{i}" for i in range(500)])
    with pytest.raises(InputError, match="do not belong together"):
        ImageTextModel(f"local-dir:{folder}")


def test_the_hub_out_of_reach_names_the_local_way() -> None:
    with pytest.raises(InputError, match=r"cannot be reached.*hf download.*local-dir:FOLDER"):
        ImageTextModel("hf-hub:microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224")
    with pytest.raises(InputError, match="cannot be downloaded"):
        ImageTextModel("ViT-B-16", pretrained="openai")


def test_a_hub_repository_is_loaded_as_a_folder(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    asked: list[str] = []

    def download(repo: str, name: str) -> str:
        asked.append(name)
        if not (folder / name).is_file():
            raise LocalEntryNotFoundError(name)
        return str(folder / name)

    monkeypatch.setattr("medzeroseg.models.sources.snapshot_download", lambda repo, allow_patterns: str(folder))
    monkeypatch.setattr("medzeroseg.models.sources.hf_hub_download", download)
    from_hub = ImageTextModel("hf-hub:owner/model")
    assert asked[-1] == WEIGHTS  # safetensors are asked for first, and nothing after the first that exists
    assert all(name.endswith(".safetensors") for name in asked[:-1])
    assert from_hub.signature == ImageTextModel(f"local-dir:{folder}").signature


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("huge", None, "unknown.*small"),
        ("local-dir:", None, "names nothing"),
        ("local-dir:x", "openai", "drop `pretrained"),
        ("ViT-B-16", "openal", "neither a file nor a tag; tags: .*openai"),
        ("small", "openai", "neither a file nor a tag; tags: none"),
        ("coca_ViT-B-32", None, "CoCa"),
    ],
)
def test_bad_names_are_explained(name: str, pretrained: str | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageTextModel(name, pretrained=pretrained)


def test_weights_of_the_small_model_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ImageTextModel("small")
    save_file(model.clip.state_dict(), tmp_path / "small.safetensors")
    again = ImageTextModel("small", pretrained=str(tmp_path / "small.safetensors"))
    assert torch.equal(again.clip.visual.head.proj.weight, model.clip.visual.head.proj.weight)


def test_clips_layout_in_half_precision_becomes_float32(tmp_path: Path) -> None:
    folder = write_clip_folder(tmp_path / "clip")
    model = ImageTextModel(f"local-dir:{folder}")
    stored = torch.load(folder / WEIGHTS, weights_only=True)["state_dict"]
    assert stored["module.token_embedding.weight"].dtype == torch.float16
    embedding = model.clip.text.token_embedding.weight
    assert embedding.dtype == torch.float32
    assert torch.equal(embedding, stored["module.token_embedding.weight"].float())


def test_packaged_configurations_all_build() -> None:
    assert "small" in packaged_names()
    for name in packaged_names():
        assert ImageTextModel(name).name == name
