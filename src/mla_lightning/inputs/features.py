"""Input of feature vectors and sequences: unchanged, or scaled by one mean and deviation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mla_lightning.inputs.base import BatchRandomness, Input, check_scale

if TYPE_CHECKING:
    from torch import Tensor


class Features(Input):
    """Feature vectors or sequences (B, ...) of any float type, scaled, as float32.

    Example:
        >>> import torch
        >>> Features(mean=1.0, std=2.0)(torch.tensor([[1.0, 5.0]], dtype=torch.float16))
        tensor([[0., 2.]])
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"features"})

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        """Set the scale.

        Args:
            mean: Subtracted from the values.
            std: Then the values are divided by it, > 0.

        Raises:
            ConfigError: If a number is out of range.
        """
        check_scale(mean, std)
        self.mean, self.std = mean, std

    def __call__(self, x: Tensor, randomness: BatchRandomness | None = None) -> Tensor:
        """Convert a batch; see :class:`Input`."""
        x = x.float()
        return x if (self.mean, self.std) == (0.0, 1.0) else (x - self.mean) / self.std
