"""Training rules that were tried and do not belong to the package: see README.md."""
