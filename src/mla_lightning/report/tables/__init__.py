"""Kinds of reports: their tables, significance tests and notes."""
