"""Committed results, and scripts for the reports on them that are specific to this project."""
