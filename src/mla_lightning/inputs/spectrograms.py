"""Input of spectrograms: scaled, and with masked bands in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from mla_lightning.errors import check_number
from mla_lightning.inputs.base import BatchRandomness, Input, check_scale

if TYPE_CHECKING:
    from torch import Tensor


class Spectrograms(Input):
    """Spectrograms (B, T, F), time first, scaled, as (B, 1, T, F) float32.

    In training, one band of frequencies and one interval of time of each spectrogram may then be
    set to 0, the mean after scaling (SpecAugment, Park et al. 2019). Their widths are uniform from
    0 to ``freq_mask`` and ``time_mask``.

    Example:
        >>> import torch
        >>> x = torch.full((5, 20, 8), -5.081)
        >>> Spectrograms(mean=-5.081, std=4.4849)(x).unique()
        tensor([0.])
        >>> masked = Spectrograms(time_mask=4)
        >>> randomness = BatchRandomness(seed=0, epoch=0, modality="audio", index=torch.arange(5))
        >>> x = masked(torch.ones(5, 20, 8), randomness)  # training
        >>> x.shape, (x == 0).all(dim=3).sum(dim=2).max().item() <= 4
        (torch.Size([5, 1, 20, 8]), True)
        >>> masked(torch.ones(5, 20, 8)).unique()  # evaluation
        tensor([1.])
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"spectrogram"})

    def __init__(
        self, mean: float = 0.0, std: float = 1.0, freq_mask: int = 0, time_mask: int = 0
    ) -> None:
        """Set the scale and the masks.

        Args:
            mean: Subtracted from the values. MLA's released code subtracts nothing; CAV-MAE was
                trained with -5.081.
            std: Then the values are divided by it, > 0. CAV-MAE: 4.4849.
            freq_mask: Largest width of the masked band, in bins; 0 for no mask. CAV-MAE: 48.
            time_mask: Largest width of the masked interval, in frames; 0 for no mask. CAV-MAE: 192.

        Raises:
            ConfigError: If a number is out of range.
        """
        check_scale(mean, std)
        for name, value in (("freq_mask", freq_mask), ("time_mask", time_mask)):
            check_number(name, value, 0, 10**6)
        self.mean, self.std = mean, std
        self.freq_mask, self.time_mask = freq_mask, time_mask

    def __call__(self, x: Tensor, randomness: BatchRandomness | None = None) -> Tensor:
        """Convert a batch; see :class:`Input`."""
        x = x.float()
        if (self.mean, self.std) != (0.0, 1.0):
            x = (x - self.mean) / self.std
        if randomness is not None and self.time_mask:
            is_masked = _intervals(randomness.uniform("time_mask", 2), self.time_mask, x.shape[1])
            x = x.masked_fill(is_masked[:, :, None], 0.0)
        if randomness is not None and self.freq_mask:
            is_masked = _intervals(randomness.uniform("freq_mask", 2), self.freq_mask, x.shape[2])
            x = x.masked_fill(is_masked[:, None, :], 0.0)
        return x[:, None]


def _intervals(draws_B2: Tensor, max_width: int, length: int) -> Tensor:
    """Compute a random interval for each row: (B, length) bool, true inside."""
    import torch

    width = (draws_B2[:, :1] * (min(max_width, length) + 1)).floor()
    start = (draws_B2[:, 1:] * (length - width + 1)).floor()
    position = torch.arange(length, device=draws_B2.device)
    return (position >= start) & (position < start + width)
