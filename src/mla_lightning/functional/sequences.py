"""Sequences of one length in a batch, zeros at the end."""

from __future__ import annotations

from torch import Tensor


def steps_there(x: Tensor) -> Tensor:
    """Tell which steps of sequences are there: those that are not all zero.

    Args:
        x: (B, T, D).

    Returns:
        (B, T) bool.
    """
    return (x != 0).any(dim=2)


def mean_step(x: Tensor) -> Tensor:
    """Average the steps that are there.

    Args:
        x: (B, T, D).

    Returns:
        (B, D), zeros for a sequence without a step.
    """
    return x.sum(dim=1) / steps_there(x).sum(dim=1, keepdim=True).clamp(min=1)
