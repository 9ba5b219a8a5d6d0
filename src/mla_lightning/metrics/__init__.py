"""What is measured: accuracy, macro F1, calibration, for the fused logits and each modality."""
