"""Audio encoder from transformers: the audio spectrogram transformer (AST)."""

from __future__ import annotations

from torch import Tensor

from mla_lightning.encoders.hf import HFEncoder
from mla_lightning.errors import ConfigError


class HFAudio(HFEncoder):
    """An audio spectrogram transformer, for log-mel spectrograms (B, 1, T, F) or (B, T, F).

    The public weights take T = 1024 frames and F = 128 bins and were trained on
    ``(x + 4.2677393) / (2 * 4.5689974)``. With ``pooling="cls"`` the feature is the mean of the
    model's two special tokens, as in its paper; with ``mean`` it is the mean over the patches.

    Example:
        A tiny one with random weights:

        >>> import tempfile
        >>> import torch
        >>> from mla_lightning.encoders.hf import import_transformers
        >>> config = import_transformers().ASTConfig(
        ...     max_length=64,
        ...     num_mel_bins=32,
        ...     hidden_size=8,
        ...     num_hidden_layers=1,
        ...     num_attention_heads=2,
        ...     intermediate_size=16,
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     config.save_pretrained(folder)
        ...     encoder = HFAudio(name=folder, pretrained=False)
        >>> encoder(torch.randn(5, 64, 32)).shape
        torch.Size([5, 8])
    """

    #: Number of special tokens: [CLS] and the distillation token.
    num_special = 2

    def check_model(self, name: str) -> None:
        """Check that the model is an audio spectrogram transformer."""
        model_type = getattr(self.config, "model_type", None)
        if model_type != "audio-spectrogram-transformer":
            raise ConfigError(
                f"{name} is of type {model_type!r}. Spectrograms need an "
                "audio-spectrogram-transformer, such as MIT/ast-finetuned-audioset-10-10-0.4593."
            )

    def forward(self, x: Tensor) -> Tensor:
        """Encode spectrograms.

        Args:
            x: Spectrograms (B, 1, T, F) or (B, T, F), with the T and F of the model.

        Returns:
            Features (B, out_features).

        Raises:
            ConfigError: If the input has another shape.
        """
        time, mels = self.config.max_length, self.config.num_mel_bins
        self.check_input(
            tuple(x.shape[1:]) in ((1, time, mels), (time, mels)),
            x,
            f"spectrograms (B, 1, {time}, {mels}) or (B, {time}, {mels})",
        )
        values = x.reshape(x.shape[0], time, mels)
        tokens = self.model(input_values=values).last_hidden_state
        special, patches = tokens[:, : self.num_special], tokens[:, self.num_special :]
        return (special if self.pooling == "cls" else patches).mean(dim=1)
