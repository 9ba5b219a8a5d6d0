"""The contract of an encoder."""

from __future__ import annotations

from torch import Tensor, nn


class Encoder(nn.Module):
    """Turns a modality's input into a feature.

    Attributes:
        out_features: Width D of the feature.
    """

    out_features: int

    def expect(self, x: Tensor, ndim: int, meaning: str) -> None:
        """Check an input's number of axes.

        Args:
            x: The input.
            ndim: How many axes it must have.
            meaning: What they are, for the message.

        Raises:
            ValueError: If the input has another number of axes.
        """
        if x.ndim != ndim:
            raise ValueError(f"{type(self).__name__} expects {meaning}, got shape {tuple(x.shape)}")
