"""Training rules, one per file: what happens to a batch."""
