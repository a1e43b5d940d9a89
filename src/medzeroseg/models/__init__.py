"""Image-text models."""

from medzeroseg.models.clip import MAX_LOGIT_SCALE, ImageTextModel
from medzeroseg.models.dpfem import DPFEM
from medzeroseg.models.image_towers import ImageFeatures, SaliencyLayer
from medzeroseg.models.image_transform import ImageTransform, TrainImageTransform
from medzeroseg.models.local_convnet import LocalConvNet
from medzeroseg.models.patch_tower import PatchTower
from medzeroseg.models.sources import packaged_names
from medzeroseg.models.tokenizer import Tokenizer

__all__ = [
    "DPFEM",
    "MAX_LOGIT_SCALE",
    "ImageFeatures",
    "ImageTextModel",
    "ImageTransform",
    "LocalConvNet",
    "PatchTower",
    "SaliencyLayer",
    "Tokenizer",
    "TrainImageTransform",
    "packaged_names",
]
