"""From a `ModelSource` to an open_clip model with its weights, and its tokenizer."""

import json
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

from open_clip.model import (
    CustomTextCLIP,
    convert_to_custom_text_state_dict,
    resize_pos_embed,
)
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor, nn
from transformers import BertTokenizerFast

from medzeroseg.imaging.errors import InputError
from medzeroseg.models.checkpoints import load_strictly
from medzeroseg.models.sources import ModelSource
from medzeroseg.models.tokenizer import Tokenizer

_BERT = "text.transformer."
_DEFAULT_CONTEXT_LENGTH = 77
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "tokenizer.model")


def build_tokenizer(source: ModelSource, context_length: int | None) -> Tokenizer:
    """The tokenizer that belongs to a model.

    Args:
        source: The model.
        context_length: Tokens per caption; None for the model's own.

    Raises:
        InputError: The tokenizer's files are missing or unusable.
        ValueError: `context_length` is longer than the model's own.
    """
    text_cfg = source.model_cfg["text_cfg"]
    own_length = int(text_cfg.get("context_length") or _DEFAULT_CONTEXT_LENGTH)
    if context_length is not None and context_length > own_length:
        raise ValueError(f"context_length {context_length} exceeds the {own_length} tokens of {source.label}")
    length = context_length or own_length
    hf_name = text_cfg.get("hf_tokenizer_name") or text_cfg.get("hf_model_name")
    if not hf_name:
        options = text_cfg.get("tokenizer_kwargs") or {}
        return Tokenizer(SimpleTokenizer(context_length=length, **options), length)
    return Tokenizer(_hf_tokenizer(source, hf_name, length), length)


def build_model(source: ModelSource, tokenizer: Tokenizer, image_size_px: int | None) -> Any:  # noqa: ANN401
    """Build the towers and load the weights, every one of them or none.

    Args:
        source: The model.
        tokenizer: Its tokenizer; its padding id becomes that of a BERT-type tower.
        image_size_px: Side of the images; None for the model's own.

    Returns:
        open_clip's `CustomTextCLIP`.

    Raises:
        InputError: The configuration is not usable or the weights do not fit it.
    """
    cfg = deepcopy(source.model_cfg)
    cfg.pop("custom_text", None)
    if "multimodal_cfg" in cfg:
        raise InputError(f"{source.label}: captioning models (multimodal_cfg, CoCa) are not supported")
    cfg["vision_cfg"]["timm_model_pretrained"] = False
    if image_size_px is not None and not cfg["vision_cfg"].get("timm_model_name"):
        cfg["vision_cfg"]["image_size"] = image_size_px
    with tempfile.TemporaryDirectory(prefix="medzeroseg-") as staging:
        if cfg["text_cfg"].get("hf_model_name"):
            # open_clip takes the text tower's configuration from a name only: give it a folder that has one
            bert = _bert_config(source)
            bert["pad_token_id"] = tokenizer.pad_id
            (Path(staging) / "config.json").write_text(json.dumps(bert), encoding="utf-8")
            cfg["text_cfg"] |= {"hf_model_name": staging, "hf_model_pretrained": False}
        try:
            model = CustomTextCLIP(**cfg)
        except (TypeError, KeyError, RuntimeError, AssertionError, ValueError, OSError) as error:
            raise InputError(f"the configuration of {source.label} is not usable: {error}") from error
    if tokenizer.vocab_size > model.vocab_size:
        raise InputError(
            f"{source.label}: its tokenizer has {tokenizer.vocab_size} tokens, its text tower only "
            f"{model.vocab_size}; the two do not belong together"
        )
    stated_size_px = cfg["vision_cfg"].get("image_size", 224)
    if source.state_has_size:
        _set_timm_input_size(model.visual, stated_size_px)
    if source.state is not None:
        load_strictly(model, _converted(source.state, model), source.label)
    _set_timm_input_size(model.visual, image_size_px or stated_size_px)
    return model


def _converted(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Old layouts of the same weights: CLIP without a text module, buffers that are no longer stored."""
    state = convert_to_custom_text_state_dict(dict(state))
    state.pop(f"{_BERT}embeddings.position_ids", None)
    for key in ("input_resolution", "context_length", "vocab_size"):
        state.pop(key, None)
    if "logit_scale" in state:
        state["logit_scale"] = state["logit_scale"].reshape(())
    # published weights may be stored in half precision; the towers compute in float32 or under autocast
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    resize_pos_embed(state, model)
    return state


def _set_timm_input_size(visual: Any, size_px: int) -> None:  # noqa: ANN401
    """Towers of timm are built at their name's size and resized, with their weights, afterwards."""
    if not hasattr(visual, "trunk"):
        return
    patch_embed = getattr(visual.trunk, "patch_embed", None)
    if patch_embed is not None and tuple(patch_embed.img_size) != (size_px, size_px):
        visual.trunk.set_input_size((size_px, size_px))
    visual.image_size = (size_px, size_px)


def _bert_config(source: ModelSource) -> dict[str, Any]:
    """The text tower's configuration: the folder's own, else read off the shapes of the weights.

    BiomedCLIP's repository has no configuration of its BERT; open_clip would ask the hub for it.
    """
    if source.bert_config is not None:
        # auto_map points to code of the repository, which is never run
        return {key: value for key, value in source.bert_config.items() if key != "auto_map"}
    name = str(source.model_cfg["text_cfg"]["hf_model_name"])
    state = source.state or {}
    is_bert = "bert" in name.lower() and "roberta" not in name.lower() and "deberta" not in name.lower()
    try:
        if not is_bert:
            raise KeyError("config.json")
        words = state[f"{_BERT}embeddings.word_embeddings.weight"]
        positions = state[f"{_BERT}embeddings.position_embeddings.weight"]
        types = state[f"{_BERT}embeddings.token_type_embeddings.weight"]
        hidden = words.shape[1]
        inner = state[f"{_BERT}encoder.layer.0.intermediate.dense.weight"].shape[0]
    except KeyError as error:
        raise InputError(
            f"{source.label} has no configuration of its text tower and it cannot be inferred from the "
            f"weights (no {error}): copy config.json of {name} into the folder"
        ) from error
    numbers = {key.split(".")[4] for key in state if key.startswith(f"{_BERT}encoder.layer.")}
    return {
        "model_type": "bert",
        "vocab_size": words.shape[0],
        "hidden_size": hidden,
        "num_hidden_layers": len(numbers),
        # BERT's convention, which no weight shows: heads of 64 channels
        "num_attention_heads": max(hidden // 64, 1),
        "intermediate_size": inner,
        "max_position_embeddings": positions.shape[0],
        "type_vocab_size": types.shape[0],
    }


def _hf_tokenizer(source: ModelSource, hf_name: str, length: int) -> HFTokenizer:
    text_cfg = source.model_cfg["text_cfg"]
    options = {
        "tokenizer_mode": text_cfg.get("tokenizer_mode"),
        "trust_remote_code": False,
        "local_files_only": source.tokenizer_folder is not None,
        **(text_cfg.get("tokenizer_kwargs") or {}),
    }
    folder = source.tokenizer_folder
    advice = (
        f"copy tokenizer.json, tokenizer_config.json, special_tokens_map.json and vocab.txt of {hf_name} "
        "into its folder"
    )
    # without this check transformers would make up a tokenizer that knows nothing but the special tokens
    if folder is not None and not any((folder / name).is_file() for name in _VOCABULARIES):
        raise InputError(f"{source.label} has no tokenizer: {advice}")
    try:
        if folder is None:
            return HFTokenizer(hf_name, context_length=length, **options)
        if (folder / "tokenizer_config.json").is_file() or not (folder / "vocab.txt").is_file():
            return HFTokenizer(str(folder), context_length=length, **options)
        with tempfile.TemporaryDirectory(prefix="medzeroseg-") as staging:
            BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(staging)
            return HFTokenizer(staging, context_length=length, **options)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"{source.label} has no usable tokenizer ({str(error).splitlines()[0]}): {advice}") from error
