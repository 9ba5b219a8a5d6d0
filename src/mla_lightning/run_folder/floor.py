"""The floor of a trial: the lowest score on validation with which it goes on after each epoch."""

from __future__ import annotations

from collections.abc import Sequence


def stop_epoch(curve: Sequence[float], floor: Sequence[float]) -> int | None:
    """Return the number of epochs after which a trial ends.

    Args:
        curve: The best score so far after each epoch.
        floor: The lowest score with which it goes on after epoch 1, 2, ...

    Returns:
        The first epoch, from 1, with a score below the floor; None if there is none.

    Example:
        >>> stop_epoch([0.1, 0.2, 0.2], floor=[0.0, 0.2, 0.3]), stop_epoch([0.5], floor=[])
        (3, None)
    """
    pairs = zip(curve, floor, strict=False)
    return next((epoch for epoch, (score, low) in enumerate(pairs, 1) if score < low), None)


def floor_reason(epoch: int, num_epochs: int, score: float, low: float) -> str:
    """Return why a trial ended early.

    Args:
        epoch: Number of epochs that it was trained.
        num_epochs: Number of epochs of a whole trial.
        score: Its best score so far, as a fraction.
        low: The floor after this epoch.

    Example:
        >>> floor_reason(12, 40, 0.612, 0.65)
        'pruned after epoch 12 of 40: 61.2 % on validation, half of the earlier trials had 65.0 %'
    """
    return (
        f"pruned after epoch {epoch} of {num_epochs}: {100 * score:.1f} % on validation, half of "
        f"the earlier trials had {100 * low:.1f} %"
    )
