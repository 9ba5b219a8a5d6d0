"""Balanced multimodal learning: MLA and its baselines, each as its paper defines it."""

__version__ = "0.1.0"
