"""Tests, in the rooms of the package. Helpers are imported by their place, `tests.train.jobs`."""
