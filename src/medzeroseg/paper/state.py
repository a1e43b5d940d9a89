"""What is done, and what has to run again: by record, configuration and age of what was read."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import yaml

from medzeroseg.paper.plan import Run, Step
from medzeroseg.tables import is_finished

# Of a configuration: what does not change a run's figures, or belongs to the machine
_FREE = frozenset(
    {
        *("num_workers", "phantom_workers", "pin_memory", "persistent_workers", "cache_dir", "config", "runs_dir"),
        *("ckpt_path", "weights_only", "return_predictions", "verbose", "logger", "enable_progress_bar"),
        *("enable_model_summary", "accelerator", "devices", "num_nodes", "log_every_n_steps"),
        *("stall_clock", "start_record", "step_checkpoint"),
    }
)
# Written relative to the working directory or not, they name the same place
_PATHS = frozenset({"root", "folder", "checkpoint", "dirpath", "default_root_dir"})


class Stage(StrEnum):
    """What there is of a run."""

    DONE = "done"
    RESUME = "resume"
    NEW = "new"


@dataclass(frozen=True)
class Status:
    """What there is of a run, and why it is not more."""

    stage: Stage
    reason: str = ""


def statuses(steps: Sequence[Step]) -> dict[Run, Status]:
    """What is done and what is left.

    A run is done if its test was recorded, its configuration is today's, and everything it reads is done and was
    written before it started.

    Args:
        steps: In order.
    """
    found: dict[Run, Status] = {}
    for step in steps:
        found[step.run] = _status(step, found)
    return found


def _status(step: Step, before: dict[Run, Status]) -> Status:
    written = step.folder / "config.yaml"
    if not written.is_file():
        return Status(Stage.NEW)
    changed = changed_keys(step.settings, yaml.safe_load(written.read_text(encoding="utf-8")))
    if changed:
        return Status(Stage.NEW, f"its configuration has changed: {', '.join(changed)}")
    started = written.stat().st_mtime
    for run, checkpoint in step.needs.items():
        if before[run].stage is not Stage.DONE:
            return Status(Stage.NEW, f"{run} runs again")
        if checkpoint.is_file() and checkpoint.stat().st_mtime > started:
            return Status(Stage.NEW, f"{run} was trained after it")
    if is_finished(step.folder):
        return Status(Stage.DONE)
    if (step.folder / "checkpoints" / "last.ckpt").is_file():
        return Status(Stage.RESUME, "it was interrupted")
    return Status(Stage.NEW, "it was interrupted before its first checkpoint")


def changed_keys(today: dict[str, Any], then: object) -> list[str]:
    """Keys (dotted, at most three of them) whose values differ between two configurations of a run."""
    places = [values.get("runs_dir", "runs") if isinstance(values, dict) else "runs" for values in (today, then)]
    one, other = (_plain(values, os.path.abspath(at)) for values, at in zip((today, then), places, strict=True))  # noqa: PTH100
    return sorted(_differences(one, other, ""))[:3]


def _differences(one: object, other: object, at: str) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = {*one, *other}
        return [
            found for key in keys for found in _differences(one.get(key), other.get(key), f"{at}.{key}".lstrip("."))
        ]
    return [] if one == other else [at or "all"]


def _plain(value: object, runs: str, key: str = "") -> object:
    """Without what is free; paths in the folder of the runs relative to it, since it may be moved, others absolute."""
    if isinstance(value, dict):
        return {name: _plain(item, runs, name) for name, item in value.items() if name not in _FREE}
    if isinstance(value, list):
        return [_plain(item, runs) for item in value]
    if key not in _PATHS or not isinstance(value, str):
        return value
    return os.path.abspath(value).removeprefix(f"{runs}{os.sep}")  # noqa: PTH100 - names are compared, links are not
