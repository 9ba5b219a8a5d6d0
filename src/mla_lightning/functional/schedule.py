"""Learning rate over the epochs of a run."""

from __future__ import annotations

import math


def warmup_cosine(epoch: int, *, num_epochs: int, warmup: float = 0.1) -> float:
    """Compute the fraction of the learning rate in an epoch: a linear rise, then half a cosine.

    Args:
        epoch: The epoch, from 0.
        num_epochs: Number of epochs of the run; the fraction would be 0 after the last one.
        warmup: Fraction of the epochs in which the rate rises, rounded down to whole epochs.

    Returns:
        The fraction, from 0 to 1 (Loshchilov and Hutter 2017, eq. 5, without restarts).

    Example:
        >>> [round(warmup_cosine(epoch, num_epochs=10, warmup=0.2), 2) for epoch in range(10)]
        [0.33, 0.67, 1.0, 0.96, 0.85, 0.69, 0.5, 0.31, 0.15, 0.04]
        >>> warmup_cosine(0, num_epochs=1)
        1.0
    """
    rising = int(warmup * num_epochs)
    if epoch < rising:
        return (epoch + 1) / (rising + 1)
    passed = min(1.0, (epoch - rising) / max(1, num_epochs - rising))
    return (1 + math.cos(math.pi * passed)) / 2
