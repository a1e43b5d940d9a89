"""Data modules: one for each dataset, over two bases with fixed batch keys.

Image-text pairs: see `pairs.ImageTextCollate`. Labelled cases: see `slices.SliceCollate`.

The names are imported on first use, so that a light part (the phantom's generator, say) does not load
Lightning.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from data_modules.acdc import ACDCDataModule
    from data_modules.augmentation import (
        AbdominalCTAugmentation,
        CardiacMRAugmentation,
        ChestXRayAugmentation,
        SliceAugmentation,
    )
    from data_modules.base import ImageTextDataModule, SplitIndex
    from data_modules.covid_qu_ex import COVIDQUExDataModule
    from data_modules.folder import FolderDataModule
    from data_modules.medpix import MedPixDataModule
    from data_modules.pairs import (
        ImageTextCollate,
        ImageTextDataset,
        ImageTextRecord,
        PictureFile,
    )
    from data_modules.phantom_acdc import PhantomACDCDataModule
    from data_modules.phantom_covid_qu_ex import PhantomCOVIDQUExDataModule
    from data_modules.phantom_roco import PhantomROCODataModule
    from data_modules.phantom_synapse import PhantomSynapseDataModule
    from data_modules.real_samples import RealSamplesDataModule
    from data_modules.roco import ROCODataModule
    from data_modules.roco_v2 import ROCOv2DataModule
    from data_modules.segmentation import SegmentationDataModule
    from data_modules.sunnybrook import SunnybrookDataModule
    from data_modules.synapse import SynapseDataModule

_HOMES = {
    "ACDCDataModule": "acdc",
    "AbdominalCTAugmentation": "augmentation",
    "COVIDQUExDataModule": "covid_qu_ex",
    "CardiacMRAugmentation": "augmentation",
    "ChestXRayAugmentation": "augmentation",
    "FolderDataModule": "folder",
    "ImageTextCollate": "pairs",
    "ImageTextDataModule": "base",
    "ImageTextDataset": "pairs",
    "ImageTextRecord": "pairs",
    "MedPixDataModule": "medpix",
    "PhantomACDCDataModule": "phantom_acdc",
    "PhantomCOVIDQUExDataModule": "phantom_covid_qu_ex",
    "PhantomSynapseDataModule": "phantom_synapse",
    "PhantomROCODataModule": "phantom_roco",
    "PictureFile": "pairs",
    "ROCODataModule": "roco",
    "ROCOv2DataModule": "roco_v2",
    "RealSamplesDataModule": "real_samples",
    "SegmentationDataModule": "segmentation",
    "SliceAugmentation": "augmentation",
    "SplitIndex": "base",
    "SunnybrookDataModule": "sunnybrook",
    "SynapseDataModule": "synapse",
}

__all__ = [
    "ACDCDataModule",
    "AbdominalCTAugmentation",
    "COVIDQUExDataModule",
    "CardiacMRAugmentation",
    "ChestXRayAugmentation",
    "FolderDataModule",
    "ImageTextCollate",
    "ImageTextDataModule",
    "ImageTextDataset",
    "ImageTextRecord",
    "MedPixDataModule",
    "PhantomACDCDataModule",
    "PhantomCOVIDQUExDataModule",
    "PhantomROCODataModule",
    "PhantomSynapseDataModule",
    "PictureFile",
    "ROCODataModule",
    "ROCOv2DataModule",
    "RealSamplesDataModule",
    "SegmentationDataModule",
    "SliceAugmentation",
    "SplitIndex",
    "SunnybrookDataModule",
    "SynapseDataModule",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
