"""Text encoder from transformers: BERT, MiniLM, FLAVA's text tower and similar models."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mla_lightning.encoders.hf import HFEncoder
from mla_lightning.encoders.transformer import masked_mean
from mla_lightning.errors import ConfigError


class HFText(HFEncoder):
    """A text model of transformers, for token ids (B, L); 0 is padding, at the end.

    The tokens [CLS] and [SEP] are added around each text, as these models expect. With
    ``pooling="mean"`` the feature is the mean over a text's tokens, including these two, as in
    sentence-transformers.

    Example:
        A tiny BERT with random weights. Padding has no effect:

        >>> import tempfile
        >>> from mla_lightning.encoders.hf import import_transformers
        >>> config = import_transformers().BertConfig(
        ...     vocab_size=120,
        ...     hidden_size=8,
        ...     num_hidden_layers=1,
        ...     num_attention_heads=2,
        ...     intermediate_size=16,
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     config.save_pretrained(folder)
        ...     encoder = HFText(name=folder, pretrained=False).eval()
        >>> feature = encoder(torch.tensor([[5, 6, 7]]))
        >>> feature.shape
        torch.Size([1, 8])
        >>> torch.allclose(encoder(torch.tensor([[5, 6, 7, 0, 0]])), feature, atol=1e-5)
        True
    """

    towers = ("text_model",)

    def __init__(
        self, *, cls_id: int | None = 101, sep_id: int | None = 102, **options: Any
    ) -> None:
        """Load the model.

        Args:
            cls_id: Token id added before each text; None if the texts have it. BERT's
                vocabularies have 101.
            sep_id: Token id added after each text; None for none. BERT's vocabularies have 102.
            **options: Options of :class:`~mla_lightning.encoders.hf.HFEncoder`.

        Raises:
            ConfigError: If a token is not in the vocabulary, or the model is not a text model.
            DataError: If the model cannot be loaded.
        """
        super().__init__(**options)
        self.cls_id, self.sep_id = cls_id, sep_id
        size = self.config.vocab_size
        for key, token in (("cls_id", cls_id), ("sep_id", sep_id)):
            if token is not None and not 0 < token < size:
                raise ConfigError(f"{key} must be 1 to {size - 1}, got {token}")

    def check_model(self, name: str) -> None:
        """Check that the model is a text model with the padding token 0."""
        pad = getattr(self.config, "pad_token_id", None)
        if not hasattr(self.config, "vocab_size"):
            raise ConfigError(f"{name} is not a text model: it has no vocabulary")
        if pad not in (0, None):
            raise ConfigError(
                f"{name} pads with token {pad}, the data with 0: the model has another vocabulary "
                "than the data"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Encode texts.

        Args:
            x: Integer token ids (B, L).

        Returns:
            Features (B, out_features).

        Raises:
            ConfigError: If the input has another shape or type, is too long, or an id is out of
                range.
        """
        self.check_token_ids(x, self.config.vocab_size)
        x = self._with_special_tokens(x)
        max_length = getattr(self.config, "max_position_embeddings", x.shape[1])
        if x.shape[1] > max_length:
            raise ConfigError(
                f"{type(self).__name__}: texts of {x.shape[1]} tokens, including [CLS] and [SEP], "
                f"but the model takes {max_length}. Prepare the data with shorter texts."
            )
        is_token = x != 0
        # A text without tokens attends to its first padding: attention over nothing is undefined.
        attention_mask = is_token.clone()
        attention_mask[:, 0] = True
        tokens = self.model(input_ids=x, attention_mask=attention_mask.long()).last_hidden_state
        return tokens[:, 0] if self.pooling == "cls" else masked_mean(tokens, is_token)

    def _with_special_tokens(self, x: Tensor) -> Tensor:
        """Add [CLS] before and [SEP] after each text: (B, L) to (B, L + 2)."""
        if self.cls_id is not None:
            x = torch.nn.functional.pad(x, (1, 0), value=self.cls_id)
        if self.sep_id is None:
            return x
        x = torch.nn.functional.pad(x, (0, 1))
        # The place after the last token of each text, which is where its padding begins.
        places = torch.arange(1, x.shape[1] + 1, device=x.device)
        end = ((x != 0) * places).amax(dim=1, keepdim=True)
        return x.scatter(1, end, self.sep_id)
