"""PMC-CLIP's published files as an open_clip model (Lin et al., MICCAI 2023, arXiv 2303.07240).

The authors distribute either the training checkpoint, or the encoders in three files:

    folder/
        checkpoint.pt                     state_dict with module.visual.*, module.text_encoder.*, ...
      or
        image_encoder(resnet50).pth       ModifiedResNet
        text_encoder.pth                  BERT (PubMedBERT)
        text_projection_layer.pth         matrix (width, embed_dim)
      and
        vocab.txt or tokenizer.json       of microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext
        open_clip_config.json             overrides: {"model_cfg": {"vision_cfg": {"head_width": 256}}}

Sizes are read off the weights. The number of attention heads of the image pooling is not in them: it is
width * 32 / head_width = 32, as in the authors' training code; code derived from their demonstration uses 8,
which is head_width 256.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medzeroseg.imaging.errors import InputError
from medzeroseg.models.checkpoints import read_object, read_state_dict

CHECKPOINT = "checkpoint.pt"
IMAGE_ENCODER = "image_encoder(resnet50).pth"
TEXT_ENCODER = "text_encoder.pth"
TEXT_PROJECTION = "text_projection_layer.pth"

# The three-file form lacks the logit scale; this is the trained value that public code for it uses (log).
_LOG_LOGIT_SCALE = 4.4292
# Parts of the training checkpoint that the two encoders do not use: fusion, masked language modelling.
_UNUSED = ("fusion_module.", "mlm_projection", "img_special_token", "positional_embedding", "ln_final.")
_TOKENIZER = "microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext"
_CONTEXT_LENGTH = 77
_PUBLISHED = "its files are published at hf.co/datasets/axiong/pmc_oa"


def read_folder(folder: Path, override: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read PMC-CLIP's files.

    Args:
        folder: Holds the files above.
        override: Updates of the derived open_clip configuration, merged section by section.

    Returns:
        The open_clip configuration and the weights by open_clip's parameter names.

    Raises:
        InputError: Files are missing, unreadable, or not PMC-CLIP's.
    """
    if not folder.is_dir():
        raise InputError(f"no PMC-CLIP folder {folder}; {_PUBLISHED}")
    parts = [IMAGE_ENCODER, TEXT_ENCODER, TEXT_PROJECTION]
    if (folder / CHECKPOINT).is_file():
        state = _from_checkpoint(read_state_dict(folder / CHECKPOINT))
    elif all((folder / name).is_file() for name in parts):
        state = _from_parts(folder)
    else:
        missing = [name for name in parts if not (folder / name).is_file()]
        raise InputError(
            f"{folder} holds neither {CHECKPOINT} nor all of PMC-CLIP's three files; "
            f"missing: {', '.join(missing)}; {_PUBLISHED}"
        )
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise InputError(
            f"{folder} has no tokenizer: copy vocab.txt (or tokenizer.json with tokenizer_config.json) "
            f"of {_TOKENIZER} into it"
        )
    config = _config_of(state, str(folder))
    for section, value in override.items():
        config[section] = {**config[section], **value} if isinstance(value, dict) else value
    return config, state


def _from_parts(folder: Path) -> dict[str, Tensor]:
    projection = read_object(folder / TEXT_PROJECTION)
    if not isinstance(projection, Tensor) or projection.ndim != 2:
        raise InputError(f"{folder / TEXT_PROJECTION} does not hold one matrix (width, embed_dim)")
    image = {f"visual.{key}": value for key, value in read_state_dict(folder / IMAGE_ENCODER).items()}
    text = {f"text_encoder.{key}": value for key, value in read_state_dict(folder / TEXT_ENCODER).items()}
    scale = torch.tensor(_LOG_LOGIT_SCALE)
    return _from_checkpoint({**image, **text, "text_projection": projection, "logit_scale": scale})


def _from_checkpoint(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename to open_clip's parameters; BERT's pooler is dropped, the class token itself is projected."""
    renamed = {}
    for key, value in state.items():
        if key.startswith(_UNUSED) or key.startswith("text_encoder.pooler."):
            continue
        if key == "text_projection":
            renamed["text.proj.weight"] = value.detach().t().contiguous()
        else:
            renamed[key.replace("text_encoder.", "text.transformer.", 1)] = value.detach()
    return renamed


def _config_of(state: dict[str, Tensor], label: str) -> dict[str, Any]:
    """The open_clip configuration that the weights imply."""
    try:
        width = state["visual.layer1.0.conv1.weight"].shape[0]
        positions = state["visual.attnpool.positional_embedding"].shape[0] - 1
        embed_dim = state["text.proj.weight"].shape[0]
    except KeyError as error:
        raise InputError(f"the weights in {label} are not PMC-CLIP's: no parameter {error}") from error
    stages = [f"visual.layer{stage}." for stage in (1, 2, 3, 4)]
    layers = [len({key.split(".")[2] for key in state if key.startswith(stage)}) for stage in stages]
    return {
        "embed_dim": embed_dim,
        "vision_cfg": {
            "image_size": round(positions**0.5) * 32,
            "layers": layers,
            "width": width,
            "head_width": 64,
        },
        "text_cfg": {
            "hf_model_name": _TOKENIZER,
            "hf_tokenizer_name": _TOKENIZER,
            "hf_proj_type": "linear",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": _CONTEXT_LENGTH,
        },
    }
