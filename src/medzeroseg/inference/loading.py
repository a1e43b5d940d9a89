"""Model and method, from files that are data and never code."""

import hashlib
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from medzeroseg.checkpoints import load_model_weights, read_checkpoint
from medzeroseg.errors import CheckpointError, ConfigurationError
from medzeroseg.export.folder import TOWERS_NAME, read_model
from medzeroseg.models import ImageTextModel
from medzeroseg.models.configured import build_configured, require_own_classes, wrapped_input_error
from medzeroseg.zero_shot import ZeroShotMethod
from medzeroseg.zero_shot.configured_methods import build_method

DEFAULT_METHOD = Path(__file__).with_name("default_method.yaml")
EVIDENCE_METHOD = Path(__file__).with_name("evidence_method.yaml")
"""The default of a model with a tower for patch features."""
_NEEDED = (
    "segment needs the checkpoint of a contrastive training, such as runs/phantom_cehnc/seed_0/checkpoints/best.ckpt"
)


@dataclass(frozen=True)
class LoadedModel:
    """A model and where it comes from.

    Attributes:
        model: In evaluation mode, on the CPU.
        origin: Plain values for the record: file name and SHA-256, or the model's name; its architecture.
        arguments: `class_path` and `init_args` that it was built from, plain values.
    """

    model: ImageTextModel
    origin: dict[str, Any]
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedMethod:
    """A method and what its file says.

    Attributes:
        method: The method.
        compare_with: Structures whose prompts only serve the calibration; None: the neighbours of the modality.
        settings: The file's content, plain values, for the record.
    """

    method: ZeroShotMethod
    compare_with: tuple[str, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def load_model(
    checkpoint: Path | None = None,
    config: Path | None = None,
    name: str | None = None,
    pretrained: str | None = None,
) -> LoadedModel:
    """Build the model of a checkpoint, or a released one.

    A checkpoint of this project says itself which model it was made with. That configuration may only name classes of
    this package: a file from elsewhere must not choose what code runs. A configuration that the user names may use
    classes of their own.

    Args:
        checkpoint: Written by a contrastive training, or the folder of an exported model; None for a released model.
        config: A run's config.yaml, or a file with the model alone (`class_path`, `init_args`), in place of the
            checkpoint's own.
        name: Name of a released model, as `medzeroseg.models.ImageTextModel` takes it.
        pretrained: Its weights, where the name alone does not bring them.

    Raises:
        CheckpointError: The checkpoint is missing, damaged, of another task or another architecture.
        ConfigurationError: The arguments do not go together, or the configuration is not usable.
        InputError: Files of a released model are missing.
    """
    if (checkpoint is None) == (name is None):
        raise ConfigurationError("give either a checkpoint or the name of a released model (--model), and not both")
    if checkpoint is None:
        if config is not None:
            raise ConfigurationError("config: it tells a checkpoint's model; a released model (--model) needs none")
        return _released(str(name), pretrained)
    if pretrained is not None:
        raise ConfigurationError("pretrained: it belongs to a released model (--model), not to a checkpoint")
    if checkpoint.is_dir():
        return _exported(checkpoint, config)
    content = read_checkpoint(checkpoint)
    if config is None:
        arguments = _model_of_checkpoint(checkpoint, content)
        require_own_classes(checkpoint, arguments)
        model = build_configured(arguments, f"{checkpoint}: its configuration")
    else:
        arguments = _model_of_file(config)
        model = build_configured(arguments, str(config))
    if not any(key.startswith("model.") for key in content["state_dict"]):
        raise CheckpointError(f"{checkpoint} holds no model. {_NEEDED}")
    try:
        load_model_weights(model, content)
    except CheckpointError as error:
        differences = "\n".join(line for line in str(error).splitlines() if line.startswith("  "))
        raise CheckpointError(
            f"{checkpoint} does not fit the model of {config or 'its own configuration'}:\n{differences}\n"
            "Another version of this package made it, or the configuration is another run's. Train it again, or name "
            "its run's config.yaml with --config."
        ) from error
    return LoadedModel(model.eval(), _origin(checkpoint.name, checkpoint, model), arguments)


def default_method(model: ImageTextModel) -> Path:
    """The file of the method that suits a model."""
    return DEFAULT_METHOD if model.patch_tower is None else EVIDENCE_METHOD


def load_method(path: Path) -> LoadedMethod:
    """Read a method's file.

    Args:
        path: Of the form of `default_method.yaml`; None for that file.

    Raises:
        ConfigurationError: It is missing, no YAML, or holds unknown or unusable arguments.
        InputError: The files of a segmenter are missing.
    """
    settings = _read_yaml(path)
    compare_with = settings.get("compare_with")
    if compare_with is not None and not (
        isinstance(compare_with, list) and all(isinstance(name, str) and name.strip() for name in compare_with)
    ):
        raise ConfigurationError(f"{path}: compare_with: expected a list of structures")
    # a copy: the parser puts its own objects into what it is given
    arguments = deepcopy({key: value for key, value in settings.items() if key != "compare_with"})
    if "saliency" not in arguments:
        raise ConfigurationError(f"{path}: saliency is missing; see {DEFAULT_METHOD} for the form of the file")
    try:
        method = build_method(path.name, arguments)
    except ValueError as error:
        of_file = wrapped_input_error(error)
        if of_file is not None:
            raise of_file from error
        raise ConfigurationError(f"{path}: {error}") from error
    return LoadedMethod(method.eval(), None if compare_with is None else tuple(compare_with), settings)


def choose_device(name: str = "auto") -> torch.device:
    """Where to compute.

    Args:
        name: "auto" (the GPU where there is one), "cpu", "cuda", "cuda:1", "mps".

    Raises:
        ConfigurationError: torch does not know it, or the machine does not have it.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigurationError(f"device: {name!r} is unknown; give auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigurationError(f"device: {name}: torch sees no CUDA GPU here; use --device cpu, or leave it out")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(f"device: {name}: there are only {torch.cuda.device_count()} GPUs, from cuda:0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigurationError("device: mps: torch sees none here; use --device cpu, or leave it out")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigurationError(f"device: {name!r} cannot be used; give auto, cpu, cuda, cuda:1 or mps")
    return device


def _released(name: str, pretrained: str | None) -> LoadedModel:
    if pretrained is None and ":" not in name:
        raise ConfigurationError(
            f"model: {name} alone has random weights; name its weights with --pretrained (a tag of open_clip such as "
            "openai, or a file), or give a checkpoint"
        )
    try:
        model = ImageTextModel(name, pretrained)
    except ValueError as error:
        raise ConfigurationError(f"model: {name}: {error}") from error
    return LoadedModel(model.eval(), {"name": name, "pretrained": pretrained, "architecture": model.signature})


def _exported(folder: Path, config: Path | None) -> LoadedModel:
    if config is not None:
        raise ConfigurationError("config: an exported model brings its own; leave --config out")
    model, own = read_model(folder)
    arguments = {"class_path": own["class_path"], "init_args": own["init_args"]}
    return LoadedModel(model, _origin(folder.name, folder / TOWERS_NAME, model), arguments)


def _origin(name: str, weights: Path, model: ImageTextModel) -> dict[str, Any]:
    with weights.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"checkpoint": name, "sha256": digest, "architecture": model.signature}


def _model_of_checkpoint(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    config = content.get("config")
    if not isinstance(config, dict) or not config:
        raise CheckpointError(
            f"{path} does not say which model it was made with (it was written by another program, or without "
            f"medzeroseg train). Name the run's config.yaml with --config. {_NEEDED}"
        )
    arguments = _model_within(config)
    if arguments is None:
        raise CheckpointError(f"{path} is not the checkpoint of an image-text model. {_NEEDED}")
    return arguments


def _model_of_file(path: Path) -> dict[str, Any]:
    content = _read_yaml(path)
    arguments = content if "class_path" in content else _model_within(content)
    if arguments is None:
        raise ConfigurationError(
            f"{path}: it holds no image-text model; give the config.yaml of the run that made the checkpoint, or a "
            "file with class_path and init_args of the model"
        )
    return arguments


def _model_within(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The image-text model within a run's configuration: model.init_args.model."""
    task = config.get("model")
    model = (task.get("init_args") or {}).get("model") if isinstance(task, dict) else None
    return model if isinstance(model, dict) and "class_path" in model else None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: the file cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: this is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected keys and values; see {DEFAULT_METHOD.name}")
    return content
