"""Readers of run folders and results tables: the only source of what reports show."""
