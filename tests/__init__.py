"""Tests, in folders named like the packages. Helpers are imported as `tests.train.jobs`."""
