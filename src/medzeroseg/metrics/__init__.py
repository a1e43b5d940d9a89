"""Metrics that torchmetrics and MONAI lack."""

from medzeroseg.metrics.retrieval import CrossModalRetrieval, recall_at, retrieval_ranks

__all__ = ["CrossModalRetrieval", "recall_at", "retrieval_ranks"]
