"""Lightning callbacks: evaluation, tables, records, pictures."""

from medzeroseg.callbacks.case_observer import CaseObserver
from medzeroseg.callbacks.dashboard import Dashboard
from medzeroseg.callbacks.embedding_projector import EmbeddingProjector
from medzeroseg.callbacks.embedding_writer import EmbeddingWriter
from medzeroseg.callbacks.localisation import Localisation
from medzeroseg.callbacks.pair_sheet import PairSheet
from medzeroseg.callbacks.retrieval import RetrievalEvaluator
from medzeroseg.callbacks.retrieval_table import RetrievalTable
from medzeroseg.callbacks.saliency_evolution import SaliencyEvolution
from medzeroseg.callbacks.segmentation import SegmentationEvaluator
from medzeroseg.callbacks.segmentation_sheet import SegmentationSheet
from medzeroseg.callbacks.segmentation_table import SegmentationTable
from medzeroseg.callbacks.slice_keeper import SliceKeeper
from medzeroseg.callbacks.text_sensitivity import TextSensitivity
from medzeroseg.callbacks.throughput import Throughput
from medzeroseg.callbacks.validation_sheet import ValidationSheet
from medzeroseg.callbacks.weight_average import WeightAverage

__all__ = [
    "CaseObserver",
    "Dashboard",
    "EmbeddingProjector",
    "EmbeddingWriter",
    "Localisation",
    "PairSheet",
    "RetrievalEvaluator",
    "RetrievalTable",
    "SaliencyEvolution",
    "SegmentationEvaluator",
    "SegmentationSheet",
    "SegmentationTable",
    "SliceKeeper",
    "TextSensitivity",
    "Throughput",
    "ValidationSheet",
    "WeightAverage",
]
