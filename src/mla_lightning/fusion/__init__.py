"""How features or logits of the modalities meet, one fusion per file."""
