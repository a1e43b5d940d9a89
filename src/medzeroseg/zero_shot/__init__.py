"""From saliency to masks: calibration, post-processing, a promptable segmenter, and one label map."""

from medzeroseg.zero_shot.baselines import CentreBox, SmoothNoise
from medzeroseg.zero_shot.calibration import (
    Calibration,
    MeanOfPrompts,
    Presence,
    PresenceOfPrompts,
    Raw,
    SoftmaxOverPrompts,
    scale_over_case,
)
from medzeroseg.zero_shot.configured_methods import ConfiguredMethods
from medzeroseg.zero_shot.method import CaseSegmentation, ZeroShotMethod
from medzeroseg.zero_shot.method_table import MethodTable
from medzeroseg.zero_shot.overlaps import highest_confidence, resolve_overlaps

__all__ = [
    "Calibration",
    "CaseSegmentation",
    "CentreBox",
    "ConfiguredMethods",
    "MeanOfPrompts",
    "MethodTable",
    "Presence",
    "PresenceOfPrompts",
    "Raw",
    "SmoothNoise",
    "SoftmaxOverPrompts",
    "ZeroShotMethod",
    "highest_confidence",
    "resolve_overlaps",
    "scale_over_case",
]
