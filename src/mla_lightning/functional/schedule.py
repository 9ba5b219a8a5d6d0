"""Number of epochs, and the learning rate over them."""

from __future__ import annotations

import math

#: Optimisation steps that :func:`epochs_of_steps` aims at, and its fewest and most epochs.
NUM_STEPS, MIN_EPOCHS, MAX_EPOCHS = 2000, 10, 100


def epochs_of_steps(num_train: int, batch_size: int) -> int:
    """Compute the number of epochs that are about 2,000 optimisation steps, from 10 to 100.

    Args:
        num_train: Number of training samples.
        batch_size: Samples per batch; the last batch of an epoch may be smaller.

    Returns:
        The number of epochs.

    Example:
        >>> [epochs_of_steps(num_train, batch_size=16) for num_train in (200, 800, 20_000)]
        [100, 40, 10]
    """
    steps_per_epoch = max(1, -(-num_train // batch_size))
    return min(max(round(NUM_STEPS / steps_per_epoch), MIN_EPOCHS), MAX_EPOCHS)


def cosine_parts(epoch: int, *, num_epochs: int, number: int) -> float:
    """Compute the fraction of the learning rate in an epoch: half a cosine in each of equal parts.

    Args:
        epoch: The epoch, from 0.
        num_epochs: Number of epochs of the run, a multiple of ``number``.
        number: Number of parts.

    Returns:
        The fraction, from 0 to 1 (Loshchilov and Hutter 2017, eq. 5; Huang et al. 2017, eq. 2).

    Example:
        >>> [round(cosine_parts(epoch, num_epochs=8, number=2), 2) for epoch in range(8)]
        [1.0, 0.85, 0.5, 0.15, 1.0, 0.85, 0.5, 0.15]
    """
    length = num_epochs // number
    return (1 + math.cos(math.pi * (epoch % length) / length)) / 2


def step_at(epoch: int, *, num_epochs: int, at: float = 0.7, factor: float = 0.1) -> float:
    """Compute the fraction of the learning rate in an epoch: 1, and a smaller one in the last part.

    Args:
        epoch: The epoch, from 0.
        num_epochs: Number of epochs of the run.
        at: Fraction of the epochs after which the rate is lowered, rounded to whole epochs, at
            least one.
        factor: The fraction of the rate from then on.

    Returns:
        1 or ``factor``.

    Example:
        >>> [step_at(epoch, num_epochs=4, at=0.5) for epoch in range(4)]
        [1.0, 1.0, 0.1, 0.1]
    """
    return factor if epoch >= max(1, round(at * num_epochs)) else 1.0


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
