"""Metrics that torchmetrics and MONAI lack."""

from medzeroseg.metrics.retrieval import CrossModalRetrieval, recall_at, retrieval_ranks
from medzeroseg.metrics.segmentation import CaseScores, overlap_scores, pixel_auc, pointing_accuracy, score_case

__all__ = [
    "CaseScores",
    "CrossModalRetrieval",
    "overlap_scores",
    "pixel_auc",
    "pointing_accuracy",
    "recall_at",
    "retrieval_ranks",
    "score_case",
]
