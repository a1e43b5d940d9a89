"""Saliency of an image for a text, by several methods behind one interface."""

from medzeroseg.saliency.base import SaliencyMaps, SaliencyMethod
from medzeroseg.saliency.errors import SaliencyError, ZeroGradientError
from medzeroseg.saliency.g_score_cam import GScoreCAM
from medzeroseg.saliency.grad_cam import GradCAM
from medzeroseg.saliency.grad_cam_plus_plus import GradCAMPlusPlus
from medzeroseg.saliency.layer_cam import LayerCAM
from medzeroseg.saliency.m2ib import M2IB
from medzeroseg.saliency.patch_text_evidence import DPFEMEvidence, PatchTextEvidence
from medzeroseg.saliency.patch_text_similarity import DPFEMSimilarity, PatchTextSimilarity
from medzeroseg.saliency.scaling import normalise_maps, resize_maps
from medzeroseg.saliency.score_cam import ScoreCAM

__all__ = [
    "M2IB",
    "DPFEMEvidence",
    "DPFEMSimilarity",
    "GScoreCAM",
    "GradCAM",
    "GradCAMPlusPlus",
    "LayerCAM",
    "PatchTextEvidence",
    "PatchTextSimilarity",
    "SaliencyError",
    "SaliencyMaps",
    "SaliencyMethod",
    "ScoreCAM",
    "ZeroGradientError",
    "normalise_maps",
    "resize_maps",
]
