"""MedZeroSeg: text-prompted, zero-shot medical image segmentation.

An experiment framework around the method of Zhang, Huang and Li, "MedZeroSeg: Zero-shot medical image
segmentation via vision foundation models", PLOS ONE 21(3) e0344978 (2026), doi 10.1371/journal.pone.0344978.
"""

__version__ = "0.1.0"
