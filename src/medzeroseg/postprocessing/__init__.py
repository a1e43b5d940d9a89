"""From saliency maps to masks, boxes and points."""

from medzeroseg.postprocessing.base import Binariser, MaskCleaner, PostProcessing, Refiner, Step
from medzeroseg.postprocessing.components import FillHoles, LargestComponents, LargestVolumes
from medzeroseg.postprocessing.dense_crf import DenseCRF
from medzeroseg.postprocessing.k_means import KMeans
from medzeroseg.postprocessing.otsu import Otsu, OtsuProbability
from medzeroseg.postprocessing.prompts import INSIDE, NO_POINT, OUTSIDE, boxes_from_masks, points_from_masks
from medzeroseg.postprocessing.threshold import PercentileThreshold, Threshold

__all__ = [
    "INSIDE",
    "NO_POINT",
    "OUTSIDE",
    "Binariser",
    "DenseCRF",
    "FillHoles",
    "KMeans",
    "LargestComponents",
    "LargestVolumes",
    "MaskCleaner",
    "Otsu",
    "OtsuProbability",
    "PercentileThreshold",
    "PostProcessing",
    "Refiner",
    "Step",
    "Threshold",
    "boxes_from_masks",
    "points_from_masks",
]
