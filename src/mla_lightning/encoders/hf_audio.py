"""Pretrained audio encoders of transformers: the audio spectrogram transformer (AST)."""

from __future__ import annotations

from torch import Tensor

from mla_lightning.encoders.hf import HFEncoder
from mla_lightning.errors import ConfigError


class HFAudio(HFEncoder):
    """An AST, for log-mel spectrograms, time first: (B, 1, 1024, 128) or (B, 1024, 128).

    The public weights were trained on ``(x + 4.2677393) / (2 * 4.5689974)``. ``cls`` is the mean
    of the model's two own tokens, as in its paper; ``mean`` is over the patches.
    """

    #: [CLS] and the distillation token.
    num_special = 2

    def check_model(self, name: str) -> None:
        """Refuse what is no AST."""
        kind = getattr(self.config, "model_type", None)
        if kind != "audio-spectrogram-transformer":
            raise ConfigError(
                f"{name} is of type {kind!r}. Spectrograms need an audio-spectrogram-transformer, "
                "such as MIT/ast-finetuned-audioset-10-10-0.4593."
            )

    def forward(self, x: Tensor) -> Tensor:
        """Encode spectrograms.

        Args:
            x: (B, 1, T, F) or (B, T, F), T and F as the model has them.

        Returns:
            (B, out_features).

        Raises:
            ConfigError: If the input has another shape.
        """
        time, mels = self.config.max_length, self.config.num_mel_bins
        self.require(
            tuple(x.shape[1:]) in ((1, time, mels), (time, mels)),
            x,
            f"spectrograms (B, 1, {time}, {mels}) or (B, {time}, {mels})",
        )
        values = x.reshape(len(x), time, mels)
        found = self.model(input_values=values).last_hidden_state
        own, rest = found[:, : self.num_special], found[:, self.num_special :]
        return (own if self.pooling == "cls" else rest).mean(dim=1)
