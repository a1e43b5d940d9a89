"""Runs side by side: the settings that a person compares, and the figures of the tables."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

Setting = str | int | float | bool

_CLASSES = ("loss", "window_loss", "network", "optimizer", "lr_schedule")
_OF_CLASSES = {
    "loss": ("lambda_image_to_text", "lambda_text_to_image", "hard_fraction", "lambda_update", "duplicate_texts"),
    "optimizer": ("lr", "weight_decay"),
}
_OF_TASK = ("micro_batch_size", "unasked_names", "window_share", "window_px", "test_time_flips")
_OF_DATA = ("batch_size", "image_size_px")
_OF_TRAINER = ("max_epochs", "precision", "accumulate_grad_batches", "gradient_clip_val")
_METRIC = re.compile(
    r"test/((i2t|t2i)_top1(_of50)?|localisation_(auc|pointing)|above_(nonsense|foreign|absent)"
    r"|[^/]+/(dsc|iou|auc|pointing|hd95|nsd))"
)


def compared_settings(config: Mapping[str, Any]) -> dict[str, Setting]:
    """The settings of a run that a person compares with those of another.

    Neither paths nor anything else that differs from machine to machine is among them.

    Args:
        config: `model`, `data` and `trainer`, as `BaseTask.config` keeps them; empty: nothing is known.

    Returns:
        Names like `loss` (its class), `loss.lambda_image_to_text`, `batch_size`; settings that are unset are left out.
    """
    model, data = (config.get(part) or {} for part in ("model", "data"))
    of_task = model.get("init_args") or {}
    found: dict[str, Any] = {"task": _class_name(model)}
    for name in _CLASSES:
        part = of_task.get(name) or {}
        found[name] = _class_name(part)
        of_part = part.get("init_args") or {}
        found |= {f"{name}.{key}": of_part.get(key) for key in _OF_CLASSES.get(name, ())}
    found |= {key: of_task.get(key) for key in _OF_TASK}
    found |= {key: (data.get("init_args") or {}).get(key) for key in _OF_DATA}
    found |= {key: (config.get("trainer") or {}).get(key) for key in _OF_TRAINER}
    return {key: value for key, value in found.items() if isinstance(value, Setting)}


def compared_metrics(logged: Mapping[str, Tensor]) -> dict[str, float]:
    """What of a test's logged metrics stands in the tables: retrieval, overlaps, localisation, text sensitivity."""
    return {key.removeprefix("test/"): value.item() for key, value in logged.items() if _METRIC.fullmatch(key)}


def write_comparison(folder: Path, settings: Mapping[str, Setting], metrics: Mapping[str, float]) -> None:
    """Write one row of TensorBoard's "HParams" tab, in place of an earlier one.

    Only the session is described. TensorBoard makes the columns from the sessions that it finds; a description of the
    experiment, which torch's writer adds, would make those of one run the columns of all.

    Args:
        folder: Of the row alone: its scalars are the columns of metrics.
        settings: As `compared_settings` gives them.
        metrics: As `compared_metrics` gives them.
    """
    earlier = list(folder.glob("events.*"))
    _, start, end = hparams(dict(settings), dict(metrics))  # type: ignore[no-untyped-call]
    with SummaryWriter(str(folder)) as writer:
        for summary in (start, end):
            writer.file_writer.add_summary(summary)
        for name, value in metrics.items():
            writer.add_scalar(name, value)
    for file in earlier:
        file.unlink()


def _class_name(part: Mapping[str, Any]) -> str | None:
    path = part.get("class_path")
    return None if path is None else str(path).rpartition(".")[2]
