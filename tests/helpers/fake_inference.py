"""Checkpoints as a contrastive training leaves them, with random weights, and pictures to segment."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from medzeroseg.models import ImageTextModel

MODEL = {"class_path": "medzeroseg.models.ImageTextModel", "init_args": {"name": "small"}}


def write_checkpoint(path: Path, model: object = MODEL) -> Path:
    state = {f"model.{name}": value for name, value in ImageTextModel("small").state_dict().items()}
    config = {"model": {"class_path": "medzeroseg.tasks.ContrastiveTask", "init_args": {"model": model}}}
    torch.save({"state_dict": state, "config": config}, path)
    return path


def blobs(*shape: int, seed: int = 0) -> np.ndarray:
    """8-bit noise in soft blobs, (..., H, W): something to segment."""
    coarse = torch.rand(1, int(np.prod(shape[:-2], initial=1)), 4, 4, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, shape[-2:], mode="bicubic")[0].clamp(0, 1)
    return (smooth * 255).byte().numpy().reshape(shape)


def write_picture(path: Path, height: int = 24, width: int = 32, seed: int = 0) -> Path:
    Image.fromarray(blobs(height, width, seed=seed)).save(path)
    return path
