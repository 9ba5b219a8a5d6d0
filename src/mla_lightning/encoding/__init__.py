"""Base of every method: from batches to features, through inputs and encoders."""

from mla_lightning.encoding.features import EncodingModule

__all__ = ["EncodingModule"]
