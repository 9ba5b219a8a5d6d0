"""Comparison of ways to build MLA's projector, on validation."""
