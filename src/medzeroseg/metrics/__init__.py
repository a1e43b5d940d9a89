"""Metrics that torchmetrics and MONAI lack."""

from medzeroseg.metrics.retrieval import CrossModalRetrieval, cross_modal_ranks, recall_at, retrieval_ranks
from medzeroseg.metrics.segmentation import CaseScores, overlap_scores, pixel_auc, pointing_accuracy, score_case
from medzeroseg.metrics.surface import BorderVoxels, Surface, SurfaceElements, surface_scores

__all__ = [
    "BorderVoxels",
    "CaseScores",
    "CrossModalRetrieval",
    "Surface",
    "SurfaceElements",
    "cross_modal_ranks",
    "overlap_scores",
    "pixel_auc",
    "pointing_accuracy",
    "recall_at",
    "retrieval_ranks",
    "score_case",
    "surface_scores",
]
