"""Reading checkpoints safely, and saying plainly when one does not fit."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medzeroseg.errors import CheckpointError

_SHOWN = 5


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Open a checkpoint of this project without reading its tensors into memory.

    Args:
        path: A file written by Lightning's `ModelCheckpoint`.

    Returns:
        The checkpoint; its tensors are memory-mapped, on the CPU.

    Raises:
        CheckpointError: The file is missing, damaged, holds pickled objects, or is no checkpoint.
    """
    if not path.is_file():
        raise CheckpointError(
            f"No checkpoint at {path}. Give the path of a .ckpt file under runs/<EXP>/seed_*/checkpoints/."
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise CheckpointError(
            f"Cannot read the checkpoint {path}: it is damaged, or holds more than tensors and plain values, "
            f"which are not loaded for safety ({str(error).splitlines()[0]})."
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path} is not a checkpoint of a training run: it has no 'state_dict'.")
    return checkpoint


def require_same_architecture(checkpoint: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Compare a checkpoint's weights with a model's by name and shape.

    Args:
        checkpoint: With `state_dict` and, if this project wrote it, `config`.
        state: The model's state.

    Raises:
        CheckpointError: Naming the first differences and the model that the checkpoint was made with.
    """
    theirs: Mapping[str, Tensor] = checkpoint["state_dict"]
    differences = [f"missing in the checkpoint: {key}" for key in state if key not in theirs]
    differences += [f"unknown to this model: {key}" for key in theirs if key not in state]
    differences += [
        f"{key}: {tuple(theirs[key].shape)} in the checkpoint, {tuple(state[key].shape)} here"
        for key in state
        if key in theirs and theirs[key].shape != state[key].shape
    ]
    if not differences:
        return
    task = (checkpoint.get("config") or {}).get("model", {})
    model = task.get("init_args", {}).get("model")
    lines = [f"The checkpoint was made by another architecture ({len(differences)} differences):"]
    lines += [f"  {line}" for line in differences[:_SHOWN]]
    if len(differences) > _SHOWN:
        lines.append(f"  ... and {len(differences) - _SHOWN} more")
    if model:
        lines.append(f"It was made with model: {model}")
    lines.append("Use the experiment file that made it, or start without --ckpt_path / RESUME=1.")
    raise CheckpointError("\n".join(lines))


def require_same_groups(checkpoint: Mapping[str, Any], groups: Sequence[Mapping[str, Any]]) -> None:
    """Compare what a checkpoint's optimizer trained with what is to be trained, where it holds one optimizer.

    Args:
        checkpoint: With `optimizer_states`, or without.
        groups: The optimizer's parameter groups.

    Raises:
        CheckpointError: The groups have other sizes.
    """
    for state in checkpoint.get("optimizer_states", [])[:1]:
        theirs = [len(group["params"]) for group in state["param_groups"]]
        ours = [len(group["params"]) for group in groups]
        if theirs != ours:
            raise CheckpointError(
                f"The checkpoint's optimizer trains {sum(theirs)} tensors in {len(theirs)} groups, this run "
                f"{sum(ours)} in {len(ours)}. Go on with the same freezing and layer-wise decay "
                "(model.init_args.towers), or start without --ckpt_path / RESUME=1."
            )


def load_model_weights(model: nn.Module, checkpoint: Mapping[str, Any], prefix: str = "model.") -> None:
    """Give a model the weights that a task trained it to.

    Args:
        model: The model, built as the run built it.
        checkpoint: From `read_checkpoint`; the task's other weights (loss, metrics) are left out.
        prefix: What the task calls the model.

    Raises:
        CheckpointError: The checkpoint is another architecture's.
    """
    weights = {key[len(prefix) :]: value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)}
    require_same_architecture({**checkpoint, "state_dict": weights}, model.state_dict())
    model.load_state_dict(weights)
