"""Callbacks of the Trainer: checkpoints, shared stages, table of epochs, signals, diagnostics."""
