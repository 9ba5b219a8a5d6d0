"""Vectors: as they are, or scaled."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from mla_lightning.inputs.base import Draws, Input, checked_scale


class Features(Input):
    """Feature vectors or sequences (B, ...) of any float type, in single precision."""

    kinds: ClassVar[frozenset[str]] = frozenset({"features"})

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        """Choose the scale.

        Args:
            mean: Taken off.
            std: Divided by, > 0.

        Raises:
            ConfigError: If a number is out of range.
        """
        checked_scale(mean, std)
        self.mean, self.std = mean, std

    def __call__(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """Convert a batch; see :class:`Input`."""
        x = x.float()
        return x if (self.mean, self.std) == (0.0, 1.0) else (x - self.mean) / self.std
