"""A bag of tokens for short texts."""

from __future__ import annotations

from torch import Tensor, nn

from mla_lightning.encoders.base import Encoder


class BagOfTokens(Encoder):
    """The sum of a text's token embeddings. Inputs (B, L) token ids, 0 is padding.

    The sum and not the mean, and embeddings that start small: with a few tokens per text, the
    gradient of a mean reaches each of them too weakly for plain SGD.
    """

    def __init__(self, num_tokens: int, *, out_features: int = 64) -> None:
        """Build the embeddings.

        Args:
            num_tokens: Number of token ids including padding.
            out_features: Width of the feature.
        """
        super().__init__()
        self.out_features = out_features
        self.embedding = nn.EmbeddingBag(num_tokens, out_features, mode="sum", padding_idx=0)
        nn.init.normal_(self.embedding.weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Encode token ids (B, L)."""
        self.expect(x, 2, "token ids (B, length)")
        return self.embedding(x)
