"""Contrastive losses for image-text pairs, behind one interface."""

from medzeroseg.losses.base import ContrastiveLoss
from medzeroseg.losses.cehnc import CEHNCLoss
from medzeroseg.losses.dcl import DCLLoss
from medzeroseg.losses.dhn_nce import DHNNCELoss
from medzeroseg.losses.hn_nce import HNNCELoss
from medzeroseg.losses.info_nce import InfoNCELoss
from medzeroseg.losses.open_clip_adapter import OpenClipAdapter
from medzeroseg.losses.presence import PresenceLoss

__all__ = [
    "CEHNCLoss",
    "ContrastiveLoss",
    "DCLLoss",
    "DHNNCELoss",
    "HNNCELoss",
    "InfoNCELoss",
    "OpenClipAdapter",
    "PresenceLoss",
]
