"""The contract of an input, and its random numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mla_lightning.errors import ConfigError
from mla_lightning.randomness import derive_seed

#: The increment and the multipliers of SplitMix64 (Steele et al. 2014), as signed numbers.
_STEP, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


@dataclass(frozen=True)
class Draws:
    """The random numbers of one batch of one modality in training.

    A sample's numbers depend on (seed, epoch, modality, sample) alone: neither the batch that it
    is in, nor the device, nor a resume changes them.

    Attributes:
        seed: The run's seed.
        epoch: The epoch, from 0.
        modality: The modality.
        index: (B,) int64, the samples' numbers in their split.
    """

    seed: int
    epoch: int
    modality: str
    index: Tensor

    def uniform(self, purpose: str, count: int) -> Tensor:
        """Draw numbers.

        Args:
            purpose: What for; other purposes get other numbers.
            count: Numbers per sample.

        Returns:
            (B, count) float32, uniform in [0, 1).
        """
        base = derive_seed(self.seed, "input", self.modality, purpose, self.epoch)
        places = torch.arange(count, device=self.index.device)
        x = (self.index[:, None] * count + places) * _STEP + base
        x = (x ^ _shifted(x, 30)) * _FIRST
        x = (x ^ _shifted(x, 27)) * _SECOND
        return _shifted(x ^ _shifted(x, 31), 40).float() / 2**24


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift as unsigned numbers; PyTorch's shift repeats the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


class Input(ABC):
    """Turns the stored rows of one modality into what encoders take.

    Attributes:
        kinds: Kinds of a store's arrays that it takes.
    """

    kinds: ClassVar[frozenset[str]]

    @abstractmethod
    def __call__(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """Convert a batch.

        Args:
            x: (B, ...) as stored, on the device.
            draws: The batch's random numbers in training, None in evaluation.

        Returns:
            (B, ...) float32.
        """


def checked_scale(
    mean: float | Sequence[float], std: float | Sequence[float], channels: int | None = None
) -> tuple[list[float], list[float]]:
    """Check a mean and a deviation.

    Args:
        mean: One number, or one per channel.
        std: The same, above 0.
        channels: Number of channels that may have numbers of their own; None for none.

    Returns:
        Both as lists of one number or one per channel.

    Raises:
        ConfigError: If a number is out of range or there are too many.
    """
    found = []
    for name, given in (("mean", mean), ("std", std)):
        values = [float(given)] if isinstance(given, int | float) else [float(v) for v in given]
        if len(values) not in {1, channels or 1}:
            allowed = f"one number or {channels}" if channels else "one number"
            raise ConfigError(f"{name} must be {allowed}, got {values}")
        found.append(values)
    if min(found[1]) <= 0:
        raise ConfigError(f"std must be above 0, got {found[1]}")
    return found[0], found[1]
