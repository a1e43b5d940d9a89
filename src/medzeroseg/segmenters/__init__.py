"""Segmenters that turn boxes and points into masks, behind one interface.

SAM and its kin import transformers: they come on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from medzeroseg.segmenters.base import PromptableSegmenter, SegmentedPrompts, SpatialPrompts
from medzeroseg.segmenters.random_walker import RandomWalkerSegmenter

if TYPE_CHECKING:
    from medzeroseg.segmenters.sam import MedSamSegmenter, Sam2Segmenter, SamSegmenter

__all__ = [
    "MedSamSegmenter",
    "PromptableSegmenter",
    "RandomWalkerSegmenter",
    "Sam2Segmenter",
    "SamSegmenter",
    "SegmentedPrompts",
    "SpatialPrompts",
]

_LAZY = ("MedSamSegmenter", "Sam2Segmenter", "SamSegmenter")


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module("medzeroseg.segmenters.sam"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
