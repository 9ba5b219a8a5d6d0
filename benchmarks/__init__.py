"""Measures what the package promises on speed and memory, as ratios: ``python -m benchmarks``."""
