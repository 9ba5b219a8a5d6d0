"""Encoders: one modality's input to a feature (B, out_features)."""
