"""Base class of inputs, and the random numbers of a batch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from mla_lightning.errors import ConfigError
from mla_lightning.randomness import derive_seed

if TYPE_CHECKING:
    from torch import Tensor

#: Increment and two multipliers of SplitMix64 (Steele et al. 2014), as signed numbers.
_INCREMENT, _FIRST, _SECOND = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15


@dataclass(frozen=True)
class BatchRandomness:
    """Random numbers of one batch of one modality in training.

    A sample's numbers depend on (seed, epoch, modality, sample) alone, not on the rest of the
    batch, the device, or whether the run was resumed.

    Attributes:
        seed: Seed of the run.
        epoch: The epoch, from 0.
        modality: Name of the modality.
        index: Numbers of the samples in their split, (B,) int64.
        copy: Number of each row among those of its sample in the epoch, (B,) int64; None if every
            sample occurs once. The numbers of the first row, 0, are those of a single one.

    Example:
        >>> import torch
        >>> batch = BatchRandomness(seed=0, epoch=0, modality="image", index=torch.tensor([3, 7]))
        >>> alone = BatchRandomness(seed=0, epoch=0, modality="image", index=torch.tensor([7]))
        >>> torch.equal(batch.uniform("crop", 4)[1], alone.uniform("crop", 4)[0])
        True
        >>> torch.equal(batch.uniform("crop", 4), batch.uniform("flip", 4))
        False
    """

    seed: int
    epoch: int
    modality: str
    index: Tensor
    copy: Tensor | None = None

    def uniform(self, purpose: str, count: int) -> Tensor:
        """Draw uniform numbers for each sample.

        Args:
            purpose: Name of their use; different purposes have different numbers.
            count: Numbers per sample.

        Returns:
            (B, count) float32, uniform in [0, 1).
        """
        import torch

        base = derive_seed(self.seed, "input", self.modality, purpose, self.epoch)
        position = torch.arange(count, device=self.index.device)
        x = (self.index[:, None] * count + position) * _INCREMENT + base
        if self.copy is not None:
            x = x + self.copy[:, None] * _FIRST
        x = (x ^ _shifted(x, 30)) * _FIRST
        x = (x ^ _shifted(x, 27)) * _SECOND
        return _shifted(x ^ _shifted(x, 31), 40).float() / 2**24


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shift right as unsigned numbers; PyTorch's shift repeats the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


class Input(ABC):
    """Base class of functions from the stored rows of a modality to what its encoder takes.

    Attributes:
        kinds: Kinds of stored arrays that it takes.

    Example:
        An input that adds noise in training alone:

        >>> import torch
        >>> class NoisyFeatures(Input):
        ...     kinds = frozenset({"features"})
        ...
        ...     def __call__(self, x, randomness=None):
        ...         x = x.float()
        ...         return x if randomness is None else x + randomness.uniform("noise", x.shape[1])
        >>> NoisyFeatures()(torch.zeros(2, 3))
        tensor([[0., 0., 0.],
                [0., 0., 0.]])
    """

    kinds: ClassVar[frozenset[str]]

    @abstractmethod
    def __call__(self, x: Tensor, randomness: BatchRandomness | None = None) -> Tensor:
        """Convert a batch.

        Args:
            x: Rows (B, ...) as stored, on the device.
            randomness: Random numbers of the batch in training; None in evaluation.

        Returns:
            The encoder's input (B, ...), float32.
        """


def check_scale(
    mean: float | Sequence[float], std: float | Sequence[float], channels: int | None = None
) -> tuple[list[float], list[float]]:
    """Check a mean and a standard deviation.

    Args:
        mean: One number, or one per channel.
        std: One number above 0, or one per channel.
        channels: Number of channels, if they may have one number each; None if not.

    Returns:
        Both as lists of one number, or of one per channel.

    Raises:
        ConfigError: If ``std`` is not positive or the number of values is wrong.

    Example:
        >>> check_scale(0.5, (0.2, 0.2, 0.3), channels=3)
        ([0.5], [0.2, 0.2, 0.3])
    """
    lists = []
    for name, option in (("mean", mean), ("std", std)):
        values = [float(option)] if isinstance(option, int | float) else [float(v) for v in option]
        if len(values) not in {1, channels or 1}:
            allowed = f"one number or {channels}" if channels else "one number"
            raise ConfigError(f"{name} must be {allowed}, got {values}")
        lists.append(values)
    means, stds = lists
    for name, values in (("mean", means), ("std", stds)):
        if not all(map(math.isfinite, values)):
            raise ConfigError(f"{name} must be finite, got {values}")
    if min(stds) <= 0:
        raise ConfigError(f"std must be above 0, got {stds}")
    return means, stds
