"""Bag-of-tokens encoder for short texts."""

from __future__ import annotations

from torch import Tensor, nn

from mla_lightning.encoders.base import Encoder, check_at_least


class BagOfTokens(Encoder):
    """Sum of the embeddings of a text's tokens. Inputs are token ids (B, L); 0 is padding.

    It is the sum and not the mean, and embeddings start small, because with a few tokens per text
    the gradient of a mean reaches each of them too weakly for plain SGD.

    Example:
        The order of the tokens and padding have no effect:

        >>> import torch
        >>> encoder = BagOfTokens(num_tokens=100, out_features=8)
        >>> features = encoder(torch.tensor([[3, 9, 0, 0], [9, 3, 0, 0]]))
        >>> features.shape
        torch.Size([2, 8])
        >>> torch.allclose(features[0], features[1])
        True
    """

    def __init__(self, num_tokens: int, *, out_features: int = 64) -> None:
        """Build the embeddings.

        Args:
            num_tokens: Number of token ids including padding.
            out_features: Width of the feature.

        Raises:
            ConfigError: If a size is too small.
        """
        super().__init__()
        check_at_least(2, num_tokens=num_tokens)
        check_at_least(1, out_features=out_features)
        self.out_features = out_features
        self.embedding = nn.EmbeddingBag(num_tokens, out_features, mode="sum", padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode texts.

        Args:
            x: Integer token ids (B, L) below ``num_tokens``.

        Returns:
            Features (B, out_features).

        Raises:
            ConfigError: If the input has another shape or type, or, on the CPU, an id that is out
                of range.
        """
        self.check_token_ids(x, self.embedding.num_embeddings)
        return self.embedding(x)
