"""What identifies a method and its weights: plain settings, and a digest of tensors."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

_FOREIGN = ("torch", "transformers", "timm", "open_clip", "numpy", "PIL", "tokenizers")
"""Their objects hold more than settings, and not always plain values."""


def describe(value: object) -> Any:  # noqa: ANN401 - plain values, nested as the objects are
    """Settings of an object as plain values: its class, its public attributes, and those of what it is made of.

    Objects of other libraries are named by their class alone; their weights are told apart by `weights_digest`.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Tensor):
        return {"tensor": list(value.shape)}
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [describe(item) for item in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if type(value).__module__.partition(".")[0] in _FOREIGN:
        return name
    attributes = dict(vars(value)) if hasattr(value, "__dict__") else {}
    if isinstance(value, nn.Module):
        attributes |= dict(value.named_children())
        attributes.pop("training", None)
    public = {key: describe(item) for key, item in sorted(attributes.items()) if not key.startswith("_")}
    return {"class": name, **public}


def weights_digest(*modules: nn.Module) -> str:
    """SHA-256 of the names, shapes, types and values of all parameters and buffers; 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for number, module in enumerate(modules):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{number}/{name}/{tensor.dtype}/{tuple(tensor.shape)}\n".encode())
            # as bytes: numpy has no bfloat16
            digest.update(memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()


def settings_digest(settings: Mapping[str, Any]) -> str:
    """SHA-256 of plain values, independent of the order of keys; 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file; 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
