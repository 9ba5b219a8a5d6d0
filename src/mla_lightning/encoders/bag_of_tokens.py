"""A bag of tokens for short texts."""

from __future__ import annotations

from torch import Tensor, nn

from mla_lightning.encoders.base import Encoder, check_at_least


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
            x: (B, L) integer token ids below ``num_tokens``.

        Returns:
            (B, out_features).

        Raises:
            ConfigError: If the input has another shape or type.
        """
        self.require(
            x.ndim == 2 and not x.is_floating_point(), x, "token ids (B, L) of an integer type"
        )
        return self.embedding(x)
