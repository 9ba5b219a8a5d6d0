"""Spectrograms: scaled, and with bands masked in training."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mla_lightning.errors import ConfigError
from mla_lightning.inputs.base import Draws, Input, checked_scale


class Spectrograms(Input):
    """Spectrograms (B, T, F), time first, as (B, 1, T, F) in single precision.

    Scaled first; in training one band of frequencies and one stretch of time may be set to 0, the
    mean (SpecAugment, Park et al. 2019; both widths uniform from 0 to the given ones).
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"spectrogram"})

    def __init__(
        self, mean: float = 0.0, std: float = 1.0, freq_mask: int = 0, time_mask: int = 0
    ) -> None:
        """Choose the scale and the masks.

        Args:
            mean: Taken off. MLA's released code takes nothing off; CAV-MAE was trained with -5.081.
            std: Divided by, > 0. CAV-MAE: 4.4849.
            freq_mask: Largest width of the masked band, in bins; 0 for none. CAV-MAE: 48.
            time_mask: Largest width of the masked stretch, in frames; 0 for none. CAV-MAE: 192.

        Raises:
            ConfigError: If a number is out of range.
        """
        checked_scale(mean, std)
        for name, value in (("freq_mask", freq_mask), ("time_mask", time_mask)):
            if value < 0:
                raise ConfigError(f"{name} must be at least 0, got {value}")
        self.mean, self.std = mean, std
        self.freq_mask, self.time_mask = freq_mask, time_mask

    def __call__(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """Convert a batch; see :class:`Input`."""
        x = x.float()
        if (self.mean, self.std) != (0.0, 1.0):
            x = (x - self.mean) / self.std
        if draws is not None and self.time_mask:
            hidden = _stretch(draws.uniform("time_mask", 2), self.time_mask, x.shape[1])
            x = x.masked_fill(hidden[:, :, None], 0.0)
        if draws is not None and self.freq_mask:
            hidden = _stretch(draws.uniform("freq_mask", 2), self.freq_mask, x.shape[2])
            x = x.masked_fill(hidden[:, None, :], 0.0)
        return x[:, None]


def _stretch(draws_B2: Tensor, widest: int, length: int) -> Tensor:
    """Choose a stretch of each row: (B, length) bool."""
    width = (draws_B2[:, :1] * (min(widest, length) + 1)).floor()
    start = (draws_B2[:, 1:] * (length - width + 1)).floor()
    places = torch.arange(length, device=draws_B2.device)
    return (places >= start) & (places < start + width)
