"""Benchmarks of speed and memory, most of them as ratios: ``python -m benchmarks``."""
