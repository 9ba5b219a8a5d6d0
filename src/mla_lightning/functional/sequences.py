"""Sequences of steps, padded with zeros to one length per batch."""

from __future__ import annotations

from torch import Tensor


def is_present_step(x: Tensor) -> Tensor:
    """Return which steps of sequences are present, that is, not all zero.

    Args:
        x: Sequences, shape (B, T, D).

    Returns:
        Bool, shape (B, T); false for padding.

    Example:
        >>> import torch
        >>> is_present_step(torch.tensor([[[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]]))
        tensor([[ True,  True, False]])
    """
    return (x != 0).any(dim=2)


def mean_of_present_steps(x: Tensor) -> Tensor:
    """Average the present steps of sequences.

    Args:
        x: Sequences, shape (B, T, D); steps that are all zero are padding.

    Returns:
        The mean steps, shape (B, D); zeros for a sequence without a present step.

    Example:
        >>> import torch
        >>> mean_of_present_steps(torch.tensor([[[1.0, 0.0], [3.0, 2.0], [0.0, 0.0]]]))
        tensor([[2., 1.]])
    """
    return x.sum(dim=1) / is_present_step(x).sum(dim=1, keepdim=True).clamp(min=1)


def sinusoidal_positions(length: int, width: int) -> Tensor:
    r"""Compute the sines and cosines that tell a transformer the positions of steps.

    Entries 2k and 2k + 1 of position t are :math:`\sin` and :math:`\cos` of
    :math:`t / 10000^{2k / D}` (Vaswani et al., NeurIPS 2017).

    Args:
        length: Number of positions T.
        width: Width D.

    Returns:
        Float64, shape (T, D).

    Example:
        >>> sinusoidal_positions(2, 3)
        tensor([[0.0000, 1.0000, 0.0000],
                [0.8415, 0.5403, 0.0022]], dtype=torch.float64)
    """
    import torch

    position = torch.arange(length, dtype=torch.float64)[:, None]
    pair = torch.arange(0, width, 2, dtype=torch.float64)
    angle = position / 10_000 ** (pair / width)
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)[:, :width]
