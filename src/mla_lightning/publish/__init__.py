"""Finished runs and dashboards for Weights & Biases."""
