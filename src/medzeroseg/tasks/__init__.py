"""LightningModules: thin wrappers over models and losses."""

from medzeroseg.tasks.base import BaseTask
from medzeroseg.tasks.contrastive import ContrastiveTask

__all__ = ["BaseTask", "ContrastiveTask"]
