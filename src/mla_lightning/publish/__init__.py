"""Finished runs, and dashboards of them, for Weights & Biases."""
