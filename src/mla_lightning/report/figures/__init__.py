"""Figures of the reports, drawn with matplotlib from the records of `read`."""
