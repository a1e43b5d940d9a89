"""An image-text model from plain values: class paths and arguments, as configurations hold them."""

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from medzeroseg.errors import CheckpointError, ConfigurationError
from medzeroseg.imaging.errors import InputError
from medzeroseg.models.clip import ImageTextModel

_OWN = "medzeroseg."
_PLAIN_WORDS = ("name", "pretrained", "resize_mode", "patch_path")
"""Arguments of `ImageTextModel` that are words; any other text in its configuration names code."""


def require_own_classes(path: Path, value: object, key: str = "class_path") -> None:
    """Refuse configurations that would have another package's code imported, by class path or by a bare name.

    Args:
        path: The file that holds it, named in errors.
        value: The configuration, or a part of it.
        key: Under which key the part stands.

    Raises:
        CheckpointError: It names code of another package.
    """
    if isinstance(value, dict):
        for inner_key, item in value.items():
            require_own_classes(path, item, inner_key)
    elif isinstance(value, list):
        for item in value:
            require_own_classes(path, item, key)
    elif isinstance(value, str) and key not in _PLAIN_WORDS and not value.startswith(_OWN):
        raise CheckpointError(
            f"{path} names {key} {value}, which is not of this package. If you trust it, name the run's config.yaml "
            "with --config"
        )


def build_configured(arguments: dict[str, Any], place: str) -> ImageTextModel:
    """Build a model.

    Args:
        arguments: `class_path` and `init_args` of `ImageTextModel`.
        place: Where they stand, named in errors.

    Raises:
        ConfigurationError: They are no usable model.
        InputError: Files of the model are missing.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ImageTextModel, "model")
    try:
        model: ImageTextModel = parser.instantiate(parser.parse_object({"model": arguments})).model
    except (ArgumentError, ValueError) as error:
        of_file = wrapped_input_error(error)
        if of_file is not None:
            raise of_file from error
        raise ConfigurationError(f"{place} gives no usable image-text model: {error}") from error
    return model


def wrapped_input_error(error: BaseException) -> InputError | None:
    """What a part said of its own files, where the parser has wrapped it in an error of its own."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__ or cause.__context__
    return cause
