"""Figures of the reports, drawn with matplotlib from what `read` returns."""
