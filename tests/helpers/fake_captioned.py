"""Writes tiny copies of the captioned sets ROCOv2 and MedPix in their owners' layouts, from a seed."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Write a comma-separated file as spreadsheets do: quotes where needed, CRLF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def write_picture(path: Path, level: int, *, seed: int = 0) -> None:
    """Write a noisy grey picture of a known mean brightness, as RGB JPEG."""
    rng = np.random.default_rng([seed, level])
    noise = rng.integers(-30, 30, size=(40, 48)) + level
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).convert("RGB").save(path, quality=90)


def caption(name: str, level: int) -> str:
    """Word a caption that tells which picture it belongs to and holds all that CSV must quote."""
    return f'Radiograph {name} of brightness {level},\nwith a "quote" and µ'


def write_roco_v2(
    root: Path, *, seed: int = 0, sizes: Mapping[str, int] | None = None, nested_images: bool = False
) -> Path:
    """Write `{train,valid,test}_captions.csv`, the concepts and the images of ROCOv2.

    Args:
        root: Where to write.
        seed: Seed of the pictures.
        sizes: Pairs of each split.
        nested_images: Put images in `{split}_images/{split}/` instead of `{split}/`.
    """
    for place, (split, count) in enumerate((sizes or {"train": 8, "valid": 4, "test": 6}).items()):
        folder = root / f"{split}_images" / split if nested_images else root / split
        captions, concepts = [], []
        for number in range(1, count + 1):
            name = f"ROCOv2_2023_{split}_{number:06d}"
            level = 40 + (37 * number + 11 * len(split)) % 160
            write_picture(folder / f"{name}.jpg", level, seed=10 * seed + place)
            captions.append((name, caption(name, level)))
            concepts.append((name, "C1306645;C0817096" if number % 2 else "C0040405"))
        write_csv(root / f"{split}_captions.csv", ("ID", "Caption"), captions)
        write_csv(root / f"{split}_concepts.csv", ("ID", "CUIs"), concepts)
    return root


def write_medpix(root: Path, *, seed: int = 0, cases: int = 80) -> Path:
    """Write `medpix_dataset.csv` and `images/`; every fourth case has two images."""
    rows = []
    for number in range(cases):
        names = [f"synpic{100 + number}"] + [f"synpic{100 + number}b"] * (number % 4 == 0)
        for copy, name in enumerate(names):
            level = 40 + (37 * number + 5 * copy) % 160
            write_picture(root / "images" / f"{name}.jpg", level, seed=seed + number)
            # A path of the machine on which the file was written.
            rows.append((f"data/medpix_dataset/images/{name}.jpg", caption(name, level)))
    write_csv(root / "medpix_dataset.csv", ("filename", "Caption"), rows)
    return root
