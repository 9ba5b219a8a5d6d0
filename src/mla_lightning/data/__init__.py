"""Data sets: one per file, each a LightningDataModule that knows nothing of models."""
