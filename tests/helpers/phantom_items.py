"""Items of the phantom in ROCO's layout, and what of them tests look at."""

import numpy as np
import pytest

from data_modules.phantom.anatomy import Anatomy
from data_modules.phantom.items import MODALITIES, Item, ItemPlace, make_item

ITEMS = 240
every_modality = pytest.mark.parametrize(
    ("anatomy", "language"), MODALITIES, ids=[anatomy.name for anatomy, _ in MODALITIES]
)


def make_items() -> list[Item]:
    return [make_item(ItemPlace(7, "test", index, ITEMS, 0.5), 128) for index in range(ITEMS)]


def of(items: list[Item], modality: str) -> list[Item]:
    chosen = [item for item in items if item.modality == modality]
    assert len(chosen) > ITEMS / 6  # the three modalities are about equally frequent
    return chosen


def anatomy_of(item: Item) -> Anatomy:
    return next(anatomy for anatomy, _ in MODALITIES if anatomy.name == item.modality)


def mask(item: Item, *names: str) -> np.ndarray:
    return np.isin(item.labels, [anatomy_of(item).index_of(name) for name in names])


def brightness(item: Item, *names: str) -> float:
    return float(item.image[mask(item, *names)].mean())


def centroid(region: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(region)
    return float(rows.mean()), float(columns.mean())
