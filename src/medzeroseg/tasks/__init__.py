"""LightningModules: thin wrappers over models and losses."""

from medzeroseg.tasks.base import BaseTask
from medzeroseg.tasks.contrastive import ContrastiveTask
from medzeroseg.tasks.performance import Performance
from medzeroseg.tasks.segmentation import SegmentationTask
from medzeroseg.tasks.tower_tuning import TowerTuning
from medzeroseg.tasks.zero_shot_segmentation import ZeroShotSegmentationTask

__all__ = ["BaseTask", "ContrastiveTask", "Performance", "SegmentationTask", "TowerTuning", "ZeroShotSegmentationTask"]
