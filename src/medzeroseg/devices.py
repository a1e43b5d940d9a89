"""GPUs that a command is asked to use."""

import os

import torch

from medzeroseg.errors import ConfigurationError


def trainer_options(gpus: int | None) -> list[str]:
    """Options of the trainer for so many GPUs of this machine; several train in step with each other (DDP).

    Args:
        gpus: How many; 0 for the CPU, None for what the experiment says (by default: what there is).

    Raises:
        ConfigurationError: There are not so many.
    """
    if gpus is None:
        return []
    if gpus < 0:
        raise ConfigurationError(f"--gpus (GPUS) must be 0 or more, got {gpus}")
    if gpus == 0:
        return ["--trainer.accelerator=cpu", "--trainer.devices=1"]
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found < gpus:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        shown = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible!r})"
        instead = f"ask for at most {found}" if found else "leave it out, or say 0, to train on the CPU"
        raise ConfigurationError(f"GPUS={gpus}: torch {torch.__version__} sees {found} GPUs here{shown}; {instead}.")
    return ["--trainer.accelerator=gpu", f"--trainer.devices={gpus}"]
