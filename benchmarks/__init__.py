"""Measurements: ``make bench BENCH=losses`` runs ``benchmarks/losses.py``."""
