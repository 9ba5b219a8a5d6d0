"""Comparison of the projection modes of MLA on validation."""
