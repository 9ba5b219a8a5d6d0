"""From stored rows to what encoders take: computed on the device, augmented in training."""
