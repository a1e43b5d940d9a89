"""Model folders in the layout of the published ones, with random weights."""

import json
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from open_clip.model import CLIP, CustomTextCLIP
from open_clip.modified_resnet import ModifiedResNet
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, BertTokenizerFast

WORDS = (
    *(
        "chest",
        "x-ray",
        "ct",
        "mri",
        "of",
        "the",
        "a",
        "and",
        "with",
        "no",
        "in",
        "showing",
        "shows",
        "axial",
    ),
    *(
        "coronal",
        "slice",
        "image",
        "lung",
        "lungs",
        "left",
        "right",
        "ventricle",
        "myocardium",
        "heart",
        "liver",
    ),
    *("spleen", "kidney", "infection", "opacity", "normal", "patient", "arrow", "contrast", "cardiac"),
)

BERT_NAME = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
OPENAI_MEAN = [0.48145466, 0.4578275, 0.40821073]
OPENAI_STD = [0.26862954, 0.26130258, 0.27577711]
# (name, image size, hidden, layers, inner, positions, embedding) of the two towers
TINY = ("test_vit", 160, 64, 2, 128, 256, 32)
REAL = ("vit_base_patch16_224", 224, 768, 12, 3072, 512, 512)


def write_biomedclip_folder(
    path: Path,
    *,
    tiny: bool = True,
    seed: int = 0,
    safetensors: bool = False,
    with_bert_config: bool = False,
    vocab_words: Sequence[str] = WORDS,
) -> Path:
    """Write what microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224 holds, with random weights.

    Args:
        path: Folder to make.
        tiny: Small towers (about 0.6 M parameters, 160 x 160 pixels, 256 tokens) instead of the real sizes.
        seed: Of the weights.
        safetensors: Write `open_clip_model.safetensors` instead of `open_clip_pytorch_model.bin`.
        with_bert_config: Also write the `config.json` that the real repository lacks.
        vocab_words: Whole words of the WordPiece vocabulary; all others fall apart into characters.

    Returns:
        `path`.
    """
    path.mkdir(parents=True, exist_ok=True)
    vit, image_size, hidden, layers, inner, positions, embed_dim = TINY if tiny else REAL
    vocab_size = write_tokenizer(path, vocab_words)
    bert = bert_config(vocab_size, hidden, layers, inner, positions)
    model_cfg: dict[str, Any] = {
        "embed_dim": embed_dim,
        "vision_cfg": {
            "timm_model_name": vit,
            "timm_model_pretrained": False,
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": image_size,
        },
        "text_cfg": {
            "hf_model_name": BERT_NAME,
            "hf_tokenizer_name": BERT_NAME,
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": 256,
        },
    }
    config = {"model_cfg": model_cfg, "preprocess_cfg": {"mean": OPENAI_MEAN, "std": OPENAI_STD}}
    write_json(path / "open_clip_config.json", config)
    # open_clip reads the text tower's configuration from a folder: lend it one
    write_json(path / "config.json", bert.to_dict())
    text_cfg = model_cfg["text_cfg"] | {"hf_model_name": str(path), "hf_model_pretrained": False}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CustomTextCLIP(**model_cfg | {"text_cfg": text_cfg})
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    # stored by the transformers release of that time, and still in the published file
    state["text.transformer.embeddings.position_ids"] = torch.arange(positions)[None]
    if not with_bert_config:
        (path / "config.json").unlink()
    if safetensors:
        save_file(state, path / "open_clip_model.safetensors")
    else:
        torch.save(state, path / "open_clip_pytorch_model.bin")
    return path


def write_pmc_clip_folder(
    path: Path,
    *,
    tiny: bool = True,
    seed: int = 0,
    checkpoint: bool = False,
    vocab_words: Sequence[str] = WORDS,
) -> Path:
    """Write PMC-CLIP's published files, with random weights.

    Args:
        path: Folder to make.
        tiny: Small towers (64 x 64 pixels) instead of ResNet-50 at 224 and BERT-base.
        seed: Of the weights.
        checkpoint: Write the training checkpoint `checkpoint.pt` instead of the three files.
        vocab_words: Whole words of the WordPiece vocabulary.

    Returns:
        `path`.
    """
    path.mkdir(parents=True, exist_ok=True)
    image_size, width, layers = (64, 8, [1, 1, 1, 1]) if tiny else (224, 64, [3, 4, 6, 3])
    hidden, depth = (64, 2) if tiny else (768, 12)
    vocab_size = write_tokenizer(path, vocab_words)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (path / name).unlink(missing_ok=True)  # PMC-CLIP brings none; people copy the vocabulary beside it
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image = ModifiedResNet(layers, output_dim=hidden, heads=width // 2, image_size=image_size, width=width)
        for module in image.modules():
            # random statistics, or the batch norms that close the residual branches would be zero
            if isinstance(module, torch.nn.BatchNorm2d):
                for statistic in (module.weight, module.running_var):
                    assert statistic is not None
                    torch.nn.init.uniform_(statistic, 0.5, 1.5)
        text = BertModel(bert_config(vocab_size, hidden, depth, 4 * hidden, 512))
        projection = torch.randn(hidden, hidden) / hidden**0.5
        fusion = torch.randn(3 * hidden, hidden)
    if not checkpoint:
        torch.save(image.state_dict(), path / "image_encoder(resnet50).pth")
        torch.save(text.state_dict(), path / "text_encoder.pth")
        torch.save(projection, path / "text_projection_layer.pth")
        return path
    state = {f"module.visual.{key}": value for key, value in image.state_dict().items()}
    state |= {f"module.text_encoder.{key}": value for key, value in text.state_dict().items()}
    state |= {
        "module.text_encoder.embeddings.position_ids": torch.arange(512)[None],
        "module.text_projection": projection,
        "module.logit_scale": torch.tensor(3.0),
        "module.positional_embedding": torch.zeros(77, hidden),
        "module.ln_final.weight": torch.ones(hidden),
        "module.ln_final.bias": torch.zeros(hidden),
        "module.mlm_projection": torch.zeros(hidden, vocab_size),
        "module.img_special_token": torch.zeros(1, 1, hidden),
        "module.fusion_module.resblocks.0.attn.in_proj_weight": fusion,
    }
    torch.save({"epoch": 1, "name": "fake", "state_dict": state}, path / "checkpoint.pt")
    return path


def write_clip_folder(path: Path, *, seed: int = 0) -> Path:
    """Write a tiny CLIP as open_clip stores one (ryanyip7777/pmc_vit_l_14 for example), in half precision.

    Returns:
        `path`.
    """
    path.mkdir(parents=True, exist_ok=True)
    model_cfg: dict[str, Any] = {
        "embed_dim": 32,
        "vision_cfg": {"image_size": 64, "layers": 3, "width": 64, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CLIP(**model_cfg)
    config = {"model_cfg": model_cfg, "preprocess_cfg": {"mean": OPENAI_MEAN, "std": OPENAI_STD}}
    write_json(path / "open_clip_config.json", config)
    state = {f"module.{key}": value.half() for key, value in model.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, path / "open_clip_pytorch_model.bin")
    return path


def write_tokenizer(path: Path, words: Sequence[str]) -> int:
    """Write a BERT tokenizer (uncased WordPiece) as the hub stores one; return its vocabulary's size."""
    characters = string.ascii_lowercase + string.digits + string.punctuation
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *(f"##{c}" for c in characters)]
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*tokens, *(word.lower() for word in words)]))}
    BertTokenizerFast(vocab=vocab).save_pretrained(path)
    (path / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}
    write_json(path / "special_tokens_map.json", special | {"mask_token": "[MASK]"})
    # as published: by an old release, with a model_max_length that stands for "none"
    options = {"do_lower_case": True, "model_max_length": int(1e30), "tokenizer_class": "BertTokenizer"}
    write_json(path / "tokenizer_config.json", options | special | {"mask_token": "[MASK]"})
    return len(vocab)


def bert_config(vocab_size: int, hidden: int, layers: int, inner: int, positions: int) -> BertConfig:
    """BERT's configuration by its convention of 64 channels a head."""
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=max(hidden // 64, 1),
        intermediate_size=inner,
        max_position_embeddings=positions,
        initializer_range=0.1,  # with the usual 0.02 random towers map every caption to nearly one point
    )


def write_json(path: Path, value: object) -> None:
    """Write indented JSON."""
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")
