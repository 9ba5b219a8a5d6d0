"""Tests of the paper's claims: paired comparisons, families and the report."""
