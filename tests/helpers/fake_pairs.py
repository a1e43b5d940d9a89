"""Image-text pairs from memory, and a data module of them."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data_modules.base import ImageTextDataModule, Split, SplitIndex
from data_modules.pairs import ImageTextRecord
from medzeroseg.imaging import InputError


class Plain:
    """A picture of one grey level, from memory."""

    def __init__(self, level: int) -> None:
        self.level = level

    def read(self) -> Image.Image:
        return Image.new("RGB", (6, 4), (self.level,) * 3)


class Damaged(Plain):
    def read(self) -> Image.Image:
        raise InputError("/data/x.png: the picture is damaged")


def make_records(count: int, captions: Sequence[str] | None = None) -> list[ImageTextRecord]:
    return [ImageTextRecord(f"case{i}", captions[i] if captions else f"caption {i}", Plain(i)) for i in range(count)]


class FakeDataModule(ImageTextDataModule):
    def __init__(self, sizes: dict[str, int], root: Path | str = "nowhere", **options: int | str | bool) -> None:
        super().__init__(root, **{"num_workers": 0, "batch_size": 4, "image_size_px": 8, **options})
        self.sizes = sizes
        self.indexed: list[str] = []

    def index_split(self, split: Split) -> SplitIndex:
        self.indexed.append(split)
        return SplitIndex(make_records(self.sizes[split]), {"images on strike": 0})


def noisy(picture: Image.Image) -> torch.Tensor:
    """Draws from the three generators that image transforms use."""
    return torch.rand(3, 2, 2) + float(np.random.rand()) + random.random()


def count_letters(texts: list[str]) -> torch.Tensor:
    return torch.tensor([[len(text), text.count("1")] for text in texts])


SIZES = {"train": 10, "val": 3, "test": 5}
