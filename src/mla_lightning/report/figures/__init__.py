"""Figures, drawn with matplotlib from what `read` returns."""
