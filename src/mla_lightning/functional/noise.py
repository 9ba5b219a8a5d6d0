"""Noise on the inputs of a modality, as tests of robustness add it."""

from __future__ import annotations

import torch
from torch import Tensor


def with_noise(x: Tensor, level: float, scale: float, generator: torch.Generator) -> Tensor:
    r"""Add Gaussian noise to an input, relative to the spread of the modality.

    .. math:: \tilde x = x + \ell \, \sigma \, \varepsilon, \qquad \varepsilon \sim N(0, 1)

    as in QMF's tests of robustness (Zhang et al. 2023, section 4), with its unit made explicit.

    Args:
        x: Input of one sample, of any shape, float.
        level: The level, at least 0; 1 is noise as large as the spread of the inputs.
        scale: Standard deviation of the modality's inputs on the training split.
        generator: Source of random numbers.

    Returns:
        The noisy input, of the shape of x.

    Example:
        >>> x = torch.zeros(10_000)
        >>> noisy = with_noise(x, level=0.5, scale=2.0, generator=torch.Generator().manual_seed(0))
        >>> round(noisy.std().item(), 1)
        1.0
    """
    noise = torch.randn(x.shape, generator=generator, dtype=torch.float32)
    return x + (level * scale * noise).to(x.dtype)


def with_replaced(x: Tensor, level: float, pool: Tensor, generator: torch.Generator) -> Tensor:
    """Replace a fraction of the entries of a discrete input, such as tokens, by random others.

    Args:
        x: Input of one sample, integers; 0 is padding and stays.
        level: Fraction of the entries that are replaced; 1 or more replaces all.
        pool: (P,) entries to draw from, not 0.
        generator: Source of random numbers.

    Returns:
        The changed input, of the shape of x.

    Example:
        >>> x = torch.tensor([5, 6, 7, 0, 0])
        >>> with_replaced(x, 1.0, torch.tensor([9]), torch.Generator().manual_seed(0))
        tensor([9, 9, 9, 0, 0])
        >>> with_replaced(x, 0.0, torch.tensor([9]), torch.Generator().manual_seed(0))
        tensor([5, 6, 7, 0, 0])
    """
    is_replaced = torch.rand(x.shape, generator=generator) < level
    drawn = pool[torch.randint(len(pool), x.shape, generator=generator)]
    return torch.where(is_replaced & (x != 0), drawn.to(x.dtype), x)
