"""Pseudo-masks: what a zero-shot method finds in training images, written once, for a network to learn from."""

from medzeroseg.weak_supervision.label_maps import PseudoLabels, label_map
from medzeroseg.weak_supervision.teacher import ZeroShotTeacher

__all__ = ["PseudoLabels", "ZeroShotTeacher", "label_map"]
