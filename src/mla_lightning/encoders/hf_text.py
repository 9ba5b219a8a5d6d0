"""Pretrained text encoders of transformers: BERT, MiniLM, FLAVA's text tower and their kin."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mla_lightning.encoders.hf import HFEncoder
from mla_lightning.encoders.transformer import masked_mean
from mla_lightning.errors import ConfigError


class HFText(HFEncoder):
    """A text model of transformers. Inputs (B, L) token ids, 0 is padding, at the end.

    [CLS] and [SEP] are put around each text, which these models expect. The mean is over a text's
    tokens, these two included as in sentence-transformers.
    """

    towers = ("text_model",)

    def __init__(
        self, *, cls_id: int | None = 101, sep_id: int | None = 102, **options: Any
    ) -> None:
        """Load the model.

        Args:
            cls_id: Token put before each text; null where the texts have it. 101 in BERT's
                vocabularies.
            sep_id: Token put behind each text; null for none. 102 in BERT's vocabularies.
            **options: Those of :class:`~mla_lightning.encoders.hf.HFEncoder`.

        Raises:
            ConfigError: If a token is not in the vocabulary, or the model is no text model.
            DataError: If the model cannot be had.
        """
        super().__init__(**options)
        self.cls_id, self.sep_id = cls_id, sep_id
        size = self.config.vocab_size
        for key, token in (("cls_id", cls_id), ("sep_id", sep_id)):
            if token is not None and not 0 < token < size:
                raise ConfigError(f"{key} must be 1 to {size - 1}, got {token}")

    def check_model(self, name: str) -> None:
        """Refuse what is no text model, or has another padding than 0."""
        pad = getattr(self.config, "pad_token_id", None)
        if not hasattr(self.config, "vocab_size"):
            raise ConfigError(f"{name} is no text model: it has no vocabulary")
        if pad not in (0, None):
            raise ConfigError(
                f"{name} pads with token {pad}, the data with 0: its vocabulary is another one"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Encode texts.

        Args:
            x: (B, L) integer token ids.

        Returns:
            (B, out_features).

        Raises:
            ConfigError: If the input has another shape or type, is too long, or an id too large.
        """
        self.require_ids(x, self.config.vocab_size)
        x = self._framed(x)
        longest = getattr(self.config, "max_position_embeddings", x.shape[1])
        if x.shape[1] > longest:
            raise ConfigError(
                f"{type(self).__name__}: texts of {x.shape[1]} tokens, [CLS] and [SEP] included, "
                f"but the model takes {longest}. Prepare the data with shorter texts."
            )
        counts = x != 0
        # A text without any token attends to its first padding: nothing is undefined.
        attended = counts.clone()
        attended[:, 0] = True
        found = self.model(input_ids=x, attention_mask=attended.long()).last_hidden_state
        return found[:, 0] if self.pooling == "cls" else masked_mean(found, counts)

    def _framed(self, x: Tensor) -> Tensor:
        if self.cls_id is not None:
            x = torch.nn.functional.pad(x, (1, 0), value=self.cls_id)
        if self.sep_id is None:
            return x
        x = torch.nn.functional.pad(x, (0, 1))
        # Behind the last token, wherever padding begins.
        numbers = torch.arange(1, x.shape[1] + 1, device=x.device)
        end = ((x != 0) * numbers).amax(dim=1, keepdim=True)
        return x.scatter(1, end, self.sep_id)
