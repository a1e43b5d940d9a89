"""Segmentation of a person's own images from text: `medzeroseg segment` and `medzeroseg.segment`.

Importing this package is light; model, torch and readers come on first use.
"""
