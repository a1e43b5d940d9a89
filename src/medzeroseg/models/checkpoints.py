"""Reading weight files without running what is in them, and loading them without a silent gap."""

import pickle
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from medzeroseg.imaging.errors import InputError

# What open_clip and the hub call the weights of a folder, safest first.
WEIGHT_NAMES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "pytorch_model.bin",
)


def read_object(path: Path) -> object:
    """Read a weight file: safetensors, or torch's format restricted to tensors and plain containers.

    Args:
        path: The file; `.safetensors` is read as such, everything else by ``torch.load(weights_only=True)``.

    Returns:
        What the file holds, on the CPU.

    Raises:
        InputError: The file is missing, damaged, a TorchScript archive, or holds pickled objects other than
            tensors. Such a file could run any code when opened, so there is no way to force it.
    """
    if not path.is_file():
        raise InputError(f"no weight file {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch wraps both refusals and damage in this class and appends advice to switch the check off
        reason = str(error).split("Please file an issue")[0].splitlines()[-1].strip()
        raise InputError(
            f"{path} is refused: it is damaged or holds pickled objects other than tensors, which could run "
            f"code when opened ({reason}). Download it again from its publisher, or ask for safetensors."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        hint = (
            " It is a TorchScript archive: save its state_dict to a .safetensors file instead."
            if "TorchScript" in str(error)
            else " Is the download complete?"
        )
        raise InputError(f"{path} cannot be read as weights: {str(error).splitlines()[0]}.{hint}") from error


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict; a training checkpoint's ``state_dict`` entry and a ``module.`` prefix are unwrapped.

    Raises:
        InputError: As `read_object`, or the file is not a mapping of names to tensors.
    """
    found = read_object(path)
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not found or not all(isinstance(v, Tensor) for v in found.values()):
        raise InputError(f"{path} does not hold a state dict (a mapping of parameter names to tensors)")
    state = {str(key): value for key, value in found.items()}
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    return state


def find_weights(folder: Path) -> Path:
    """The weight file of an open_clip folder, safetensors preferred.

    Raises:
        InputError: There is none. open_clip would go on with random weights and a warning.
    """
    for name in WEIGHT_NAMES:
        if (folder / name).is_file():
            return folder / name
    present = ", ".join(sorted(p.name for p in folder.iterdir())) or "nothing"
    raise InputError(f"no weights in {folder}: expected one of {', '.join(WEIGHT_NAMES)}; the folder holds {present}")


def load_strictly(module: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a state dict whose names and shapes match exactly.

    Args:
        module: Receives the weights.
        state: Names to tensors.
        source: Named in the error.

    Raises:
        InputError: Names are missing or unknown, or shapes differ; the message gives the first few.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in state]
    unknown = [key for key in state if key not in own]
    shapes = [
        f"{key} is {tuple(state[key].shape)} in the file, {tuple(own[key].shape)} in the model"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    faults = [
        f"{len(found)} {what}: {_first(found)}"
        for what, found in (
            ("missing from the file", missing),
            ("unknown to the model", unknown),
            ("of another shape", shapes),
        )
        if found
    ]
    if faults:
        raise InputError(f"the weights in {source} do not fit its configuration; {'; '.join(faults)}")
    module.load_state_dict(state)


def _first(names: Iterable[str], count: int = 4) -> str:
    listed = list(names)
    return ", ".join(listed[:count]) + (", ..." if len(listed) > count else "")
