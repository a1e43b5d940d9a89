"""Figures 4 to 6 of the publication, and the saliency sheets, from finished runs and the slices that they keep."""

from medzeroseg.figures.kept_slices import KeptSlice, KeptSlices, read_slices, write_slices

__all__ = ["KeptSlice", "KeptSlices", "read_slices", "write_slices"]
