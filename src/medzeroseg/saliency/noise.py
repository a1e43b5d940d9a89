"""Noise that belongs to an image, not to the batch that it came in."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def keyed_noise(key: str, step: int, shape: Sequence[int]) -> Tensor:
    """Standard normal noise of an image's step, the same on every machine, device and batch.

    Args:
        key: The image's stable name.
        step: Which of its draws.
        shape: Of the noise.
    """
    digest = hashlib.sha256(f"{key}\x00{step}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
    return torch.randn(*shape, generator=generator)
