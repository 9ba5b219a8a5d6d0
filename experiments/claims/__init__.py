"""Tests of the paper's claims: paired comparisons in families, and their report."""
