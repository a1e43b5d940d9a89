"""The folder of an exported model, written and read.

    folder/
        open_clip_model.safetensors    both towers, by open_clip's names
        medzeroseg_parts.safetensors   what open_clip has no words for: DPFEM, patch tower (models that have them)
        open_clip_config.json          model_cfg, preprocess_cfg; and `medzeroseg`: parts, origin, checks
        tokenizer*.json, config.json   of a BERT-type text tower
        README.md                      the model card
        onnx/                          on request

It is a folder of open_clip (`local-dir:`), and no file in it is ever unpickled.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from safetensors.torch import save_file
from torch import Tensor

from medzeroseg.errors import CheckpointError, ConfigurationError
from medzeroseg.files import write_atomically
from medzeroseg.models import ImageTextModel
from medzeroseg.models.checkpoints import load_strictly, read_state_dict
from medzeroseg.models.configured import build_configured, require_own_classes
from medzeroseg.models.sources import CONFIG_NAME, OWN_SECTION, read_json

TOWERS_NAME = "open_clip_model.safetensors"
PARTS_NAME = "medzeroseg_parts.safetensors"
FORMAT = 1
_TOWERS = "clip."
_HUB = "hf-hub:"
_KEPT_ARGUMENTS = ("context_length", "dpfem", "patch_path", "patch_tower")
"""Arguments of `ImageTextModel` that neither open_clip's configuration nor the weights say."""


def write_model(model: ImageTextModel, arguments: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Write weights, configuration and tokenizer into an empty folder.

    Args:
        model: The model.
        arguments: `class_path` and `init_args` that it was built from, plain values.
        folder: An empty folder.

    Returns:
        The configuration, to which the caller may add before `write_config`.

    Raises:
        ConfigurationError: Its images are not square, which open_clip's configuration cannot say.
    """
    if len(set(model.image_size_px)) > 1:
        raise ConfigurationError(f"export: only models of square images can be exported, not {model.image_size_px}")
    towers, parts = _split(model.state_dict())
    save_file(towers, folder / TOWERS_NAME, metadata={"format": "pt"})
    if parts:
        save_file(parts, folder / PARTS_NAME, metadata={"format": "pt"})
    _write_text_tower(model, folder)
    given = arguments.get("init_args") or {}
    model_cfg = json.loads(json.dumps(model.source.model_cfg))
    model_cfg["vision_cfg"] |= {"image_size": model.image_size_px[0]}
    if "timm_model_name" in model_cfg["vision_cfg"]:
        model_cfg["vision_cfg"]["timm_model_pretrained"] = False
    if "hf_model_name" in model_cfg["text_cfg"]:
        model_cfg["text_cfg"]["hf_model_pretrained"] = False
    preprocess = {key: value for key, value in asdict(model.preprocess).items() if key != "size"}
    return {
        "model_cfg": {**model_cfg, "custom_text": True},
        "preprocess_cfg": preprocess,
        OWN_SECTION: {
            "format": FORMAT,
            "class_path": arguments["class_path"],
            "init_args": {key: given[key] for key in _KEPT_ARGUMENTS if given.get(key) is not None},
            "masks_padding": model.source.masks_padding,
            "state_has_size": True,
            "architecture": model.signature,
        },
    }


def write_config(config: Mapping[str, Any], folder: Path) -> None:
    """Write the configuration, which makes the folder a model's."""
    write_atomically(folder / CONFIG_NAME, json.dumps(config, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def is_exported(folder: Path) -> bool:
    """Whether a folder holds an exported model."""
    return (folder / CONFIG_NAME).is_file() and OWN_SECTION in read_json(folder / CONFIG_NAME)


def read_model(folder: Path) -> tuple[ImageTextModel, dict[str, Any]]:
    """Build the model of an exported folder.

    Args:
        folder: As `medzeroseg export` wrote it.

    Returns:
        The model, in evaluation mode on the CPU, and the `medzeroseg` section of its configuration.

    Raises:
        CheckpointError: The folder is no exported model, is of a later form, or names code of other packages.
        ConfigurationError: Its arguments are no usable model.
        InputError: Files are missing or damaged, or weights do not fit.
    """
    if not folder.is_dir() or not is_exported(folder):
        raise CheckpointError(
            f"{folder} is no exported model: it needs {CONFIG_NAME} with a section {OWN_SECTION!r}, as "
            "`medzeroseg export CHECKPOINT --output FOLDER` writes it"
        )
    own: dict[str, Any] = read_json(folder / CONFIG_NAME)[OWN_SECTION]
    if own.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder} has the form {own.get('format')!r}; this version of medzeroseg reads form {FORMAT}: update it"
        )
    given = {key: value for key, value in (own.get("init_args") or {}).items() if key in _KEPT_ARGUMENTS}
    arguments = {"class_path": own.get("class_path"), "init_args": given}
    require_own_classes(folder / CONFIG_NAME, arguments)
    given["name"] = f"local-dir:{folder}"
    model = build_configured(arguments, str(folder / CONFIG_NAME))
    parts = {key: value for key, value in model.state_dict().items() if not key.startswith(_TOWERS)}
    if parts:
        state = read_state_dict(folder / PARTS_NAME)
        towers = {key: value for key, value in model.state_dict().items() if key.startswith(_TOWERS)}
        load_strictly(model, {**towers, **state}, str(folder / PARTS_NAME))
    return model.eval(), own


def from_pretrained(source: Path | str) -> ImageTextModel:
    """A model that `medzeroseg export` wrote.

        model = medzeroseg.from_pretrained("exported/phantom")
        model = medzeroseg.from_pretrained("hf-hub:OWNER/REPO")

    Args:
        source: The folder; or a repository of the Hugging Face hub, which is downloaded once.

    Returns:
        The model, in evaluation mode on the CPU.

    Raises:
        CheckpointError: There is no exported model.
        InputError: Files are missing or damaged.
    """
    text = str(source)
    if not text.startswith(_HUB):
        return read_model(Path(source).expanduser())[0]
    repo = text.removeprefix(_HUB)
    try:
        folder = snapshot_download(repo, allow_patterns=["*.json", "*.safetensors", "*.txt"])
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{text} cannot be reached or is not in the cache ({str(error).splitlines()[0]}). On a machine with "
            f"access: `hf download {repo} --local-dir FOLDER`, copy FOLDER here, and name FOLDER"
        ) from error
    return read_model(Path(folder))[0]


def _split(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    towers = {key.removeprefix(_TOWERS): value for key, value in state.items() if key.startswith(_TOWERS)}
    parts = {key: value for key, value in state.items() if not key.startswith(_TOWERS)}
    return _plain(towers), _plain(parts)


def _plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # safetensors takes no views and no memory that two names share
    return {key: value.detach().cpu().clone().contiguous() for key, value in state.items()}


def _write_text_tower(model: ImageTextModel, folder: Path) -> None:
    """Tokenizer and configuration of a BERT-type tower, without the paths of the machine that made them."""
    model.tokenizer.save(folder)
    settings = folder / "tokenizer_config.json"
    if settings.is_file():
        content = {key: value for key, value in read_json(settings).items() if key != "name_or_path"}
        write_atomically(settings, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    config = getattr(model.clip.text, "config", None)
    if config is not None:
        content = {key: value for key, value in config.to_dict().items() if not key.startswith("_")}
        write_atomically(folder / "config.json", json.dumps(content, indent=2) + "\n")
