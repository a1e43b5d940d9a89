"""Where an image-text model comes from: its name turned into a configuration, weights and a tokenizer.

Everything that has files ends up as a local folder in open_clip's layout, so there is one way to load one:

    folder/
        open_clip_config.json             model_cfg, preprocess_cfg
        open_clip_pytorch_model.bin       or a .safetensors of the names in `checkpoints.WEIGHT_NAMES`
        tokenizer.json, vocab.txt, ...    the text tower's tokenizer (BERT-type towers)
        config.json                       optional: the BERT's; inferred from the weights where absent
"""

import json
import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import open_clip
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model
from torch import Tensor

from medzeroseg.imaging.errors import InputError
from medzeroseg.models import checkpoints, pmc_clip

LOG = logging.getLogger(__name__)

CONFIG_NAME = "open_clip_config.json"
OWN_SECTION = "medzeroseg"
"""Key of a configuration under which `medzeroseg export` says what open_clip has no words for."""
_TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "vocab*", "merges.txt", "config.json")


@dataclass(frozen=True)
class ModelSource:
    """A model before it is built.

    Attributes:
        label: For messages: the folder or name it came from.
        model_cfg: open_clip's model configuration (`embed_dim`, `vision_cfg`, `text_cfg`, ...).
        preprocess_cfg: The model's own image preprocessing, as far as it is stated.
        state: Weights by open_clip's parameter names; None for random initialisation.
        tokenizer_folder: Folder with the tokenizer of a BERT-type text tower.
        bert_config: Configuration of a BERT-type text tower, where the folder has one.
        masks_padding: Whether a BERT-type text tower was trained with its padding masked.
        state_has_size: Whether `state` belongs to the image size of `model_cfg`; else to that of the tower's name, and
            positions are interpolated.
    """

    label: str
    model_cfg: dict[str, Any]
    preprocess_cfg: dict[str, Any] = field(default_factory=dict)
    state: dict[str, Tensor] | None = None
    tokenizer_folder: Path | None = None
    bert_config: dict[str, Any] | None = None
    masks_padding: bool = True
    state_has_size: bool = False


def packaged_names() -> list[str]:
    """Names of the small configurations that come with this package."""
    folder = resources.files("medzeroseg.models") / "configs"
    names = (entry.name for entry in folder.iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))


def resolve(name: str, pretrained: str | None = None) -> ModelSource:
    """Find a model by name.

    Args:
        name: ``hf-hub:owner/repo``; ``local-dir:/folder`` (open_clip's layout); ``pmc-clip:/folder``; a
            packaged configuration; or a built-in name of open_clip such as ``ViT-B-16``.
        pretrained: For built-in and packaged names: a tag of open_clip, a weight file, or None for random
            weights.

    Raises:
        InputError: The name is unknown, or what it names is missing or unusable; the message says which.
    """
    schemes: dict[str, Callable[[str], ModelSource]] = {
        "hf-hub": _from_hub,
        "local-dir": lambda path: from_folder(Path(path).expanduser()),
        "pmc-clip": lambda path: _from_pmc_clip(Path(path).expanduser()),
    }
    scheme, colon, rest = name.partition(":")
    if not colon or scheme not in schemes:
        return _from_built_in(name, pretrained)
    if pretrained is not None:
        raise InputError(f"model {name!r} brings its own weights: drop `pretrained: {pretrained}`")
    if not rest:
        raise InputError(f"model {name!r} names nothing after the colon")
    return schemes[scheme](rest)


def from_folder(folder: Path) -> ModelSource:
    """Read an open_clip folder.

    Raises:
        InputError: The folder, its configuration or its weights are missing or unusable.
    """
    if not folder.is_dir():
        raise InputError(
            f"no model folder {folder}. For BiomedCLIP, on a machine with network access: `hf download "
            f"microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224 --local-dir {folder}`"
        )
    config = read_json(folder / CONFIG_NAME)
    model_cfg = config.get("model_cfg", config)
    missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in model_cfg]
    if missing:
        raise InputError(f"{folder / CONFIG_NAME} is no open_clip configuration: model_cfg lacks {missing}")
    bert = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    own = config.get(OWN_SECTION, {})
    return ModelSource(
        label=str(folder),
        model_cfg=model_cfg,
        preprocess_cfg=config.get("preprocess_cfg") or {},
        state=checkpoints.read_state_dict(checkpoints.find_weights(folder)),
        tokenizer_folder=folder,
        # the config.json of an open_clip folder may also describe the image tower (timm's have no model_type)
        bert_config=bert if "model_type" in bert else None,
        masks_padding=own.get("masks_padding", True),
        state_has_size=own.get("state_has_size", False),
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        InputError: The file is missing or holds something else.
    """
    if not path.is_file():
        raise InputError(f"no file {path}; the folder must be complete, as published")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not JSON ({error}); download it again") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} holds {type(found).__name__}, not a JSON object")
    return found


def _from_hub(repo: str) -> ModelSource:
    try:
        folder = snapshot_download(repo, allow_patterns=[CONFIG_NAME, *_TOKENIZER_FILES])
        for name in checkpoints.WEIGHT_NAMES:
            try:
                hf_hub_download(repo, name)
            except (EntryNotFoundError, LocalEntryNotFoundError) as error:
                LOG.debug("%s has no %s: %s", repo, name, error)
            else:
                break
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise InputError(
            f"hf-hub:{repo} cannot be reached or is not in the cache ({str(error).splitlines()[0]}). "
            f"On a machine with access: `hf download {repo} --local-dir FOLDER`, copy FOLDER here, "
            "and name the model local-dir:FOLDER"
        ) from error
    return from_folder(Path(folder))


def _from_pmc_clip(folder: Path) -> ModelSource:
    override = read_json(folder / CONFIG_NAME) if (folder / CONFIG_NAME).is_file() else {}
    model_cfg, state = pmc_clip.read_folder(folder, override.get("model_cfg", {}))
    return ModelSource(
        label=str(folder),
        model_cfg=model_cfg,
        preprocess_cfg=override.get("preprocess_cfg", {}),
        state=state,
        tokenizer_folder=folder,
        masks_padding=False,
    )


def _from_built_in(name: str, pretrained: str | None) -> ModelSource:
    if name in packaged_names():
        text = (resources.files("medzeroseg.models") / "configs" / f"{name}.json").read_text(encoding="utf-8")
        config = json.loads(text)
        model_cfg, preprocess_cfg = config["model_cfg"], config["preprocess_cfg"]
    else:
        model_cfg, preprocess_cfg = open_clip.get_model_config(name.replace("/", "-")), {}
        if model_cfg is None:
            raise InputError(
                f"model {name!r} is unknown. Packaged: {', '.join(packaged_names())}. From files: "
                "hf-hub:OWNER/REPO, local-dir:FOLDER, pmc-clip:FOLDER. Or one of open_clip's own, such as "
                "ViT-B-16; they are listed in open_clip.list_models()"
            )
    if pretrained is None:
        LOG.info("model %s starts from random weights", name)
        return ModelSource(label=name, model_cfg=deepcopy(model_cfg), preprocess_cfg=preprocess_cfg)
    if Path(pretrained).expanduser().is_file():
        weights = Path(pretrained).expanduser()
    else:
        weights, preprocess_cfg = _download_tag(name.replace("/", "-"), pretrained, preprocess_cfg)
    # OpenAI's weights were trained with the quick form of GELU; the tag says so
    model_cfg = deepcopy(model_cfg)
    if preprocess_cfg.get("quick_gelu"):
        model_cfg["quick_gelu"] = True
    return ModelSource(
        label=f"{name} ({pretrained})",
        model_cfg=model_cfg,
        preprocess_cfg=preprocess_cfg,
        state=checkpoints.read_state_dict(weights),
    )


def _download_tag(name: str, tag: str, preprocess_cfg: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
    cfg = get_pretrained_cfg(name, tag)
    if not cfg:
        known = ", ".join(list_pretrained_tags_by_model(name)) or "none"
        raise InputError(f"pretrained {tag!r} of {name} is neither a file nor a tag; tags: {known}")
    try:
        path = download_pretrained(cfg, prefer_hf_hub=True)
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        raise InputError(
            f"the weights {tag!r} of {name} cannot be downloaded ({str(error).splitlines()[0]}). On a "
            f"machine with access fetch them from {cfg.get('hf_hub') or cfg.get('url')}, copy the "
            ".safetensors file here and set `pretrained` to its path"
        ) from error
    return Path(path), {**preprocess_cfg, **cfg}
