"""What a task on image-text pairs needs from its data module, and what it gives to it."""

from typing import Any

from torch import nn

from medzeroseg.errors import ConfigurationError
from medzeroseg.models import ImageTextModel


def attach_model(data: Any, model: ImageTextModel, window_loss: nn.Module | None, task: object) -> None:  # noqa: ANN401
    """Hand a model's own preprocessing and tokenizer to the data module.

    Args:
        data: A data_modules.ImageTextDataModule; None for bare dataloaders, whose maker has preprocessed.
        model: The model.
        window_loss: What windows are for; None: the data module must not take any.
        task: Named in errors.

    Raises:
        ConfigurationError: The data module does not give image-text pairs, or windows without a loss or the reverse.
    """
    if data is None:
        return
    if not hasattr(data, "attach_model"):
        raise ConfigurationError(
            f"data: {type(data).__name__} gives no image-text pairs, which {type(task).__name__} needs. "
            "Use a data module derived from data_modules.ImageTextDataModule."
        )
    windows = getattr(data, "windows", None)
    if (windows is None) != (window_loss is None):
        raise ConfigurationError(
            "model.init_args.window_loss and data.init_args.windows belong together: set both, or both to null"
        )
    data.attach_model(
        train_transform=model.image_transform(train=True),
        eval_transform=model.image_transform(train=False),
        tokenizer=model.tokenizer,
        window_transform=None if windows is None else model.image_transform(size_px=windows.size_px),
    )
