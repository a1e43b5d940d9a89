"""Data modules: one for each dataset, all giving the same batch keys (see `ImageTextCollate`).

The names are imported on first use, so that a light part (the phantom's generator, say) does not load
Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_modules.base import ImageTextDataModule, SplitIndex
    from data_modules.pairs import (
        ImageTextCollate,
        ImageTextDataset,
        ImageTextRecord,
        PictureFile,
    )
    from data_modules.phantom_roco import PhantomROCODataModule
    from data_modules.real_samples import RealSamplesDataModule
    from data_modules.roco import ROCODataModule

_HOMES = {
    "ImageTextCollate": "pairs",
    "ImageTextDataModule": "base",
    "ImageTextDataset": "pairs",
    "ImageTextRecord": "pairs",
    "PhantomROCODataModule": "phantom_roco",
    "PictureFile": "pairs",
    "ROCODataModule": "roco",
    "RealSamplesDataModule": "real_samples",
    "SplitIndex": "base",
}

__all__ = [
    "ImageTextCollate",
    "ImageTextDataModule",
    "ImageTextDataset",
    "ImageTextRecord",
    "PhantomROCODataModule",
    "PictureFile",
    "ROCODataModule",
    "RealSamplesDataModule",
    "SplitIndex",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
