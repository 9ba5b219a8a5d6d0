"""The floor of a trial: the lowest score on validation with which it goes on after each epoch."""

from __future__ import annotations

from collections.abc import Sequence

from mla_lightning.run_folder.tasks import CLASSIFICATION, PRIMARY, Primary

ACCURACY = PRIMARY[CLASSIFICATION]


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


def floor_reason(
    epoch: int, num_epochs: int, score: float, low: float, metric: Primary = ACCURACY
) -> str:
    """Return why a trial ended early.

    Args:
        epoch: Number of epochs that it was trained.
        num_epochs: Number of epochs of a whole trial.
        score: Its best score so far; the negative of an error.
        low: The floor after this epoch.
        metric: The metric that selects the epoch.

    Example:
        >>> floor_reason(12, 40, 0.612, 0.65)
        'pruned after epoch 12 of 40: 61.2 % on validation, half of the earlier trials had 65.0 %'
        >>> from mla_lightning.run_folder.tasks import PRIMARY
        >>> floor_reason(12, 40, -2.5, -1.25, PRIMARY["regression"])
        'pruned after epoch 12 of 40: mae 2.5 on validation, half of the earlier trials had 1.25'
    """
    own, others = (metric.sign * value for value in (score, low))
    if metric.in_target_unit:
        own_text, others_text = f"{metric.metric} {metric.text(own)}", metric.text(others)
    else:
        own_text, others_text = f"{100 * own:.1f} %", f"{100 * others:.1f} %"
    return (
        f"pruned after epoch {epoch} of {num_epochs}: {own_text} on validation, half of the "
        f"earlier trials had {others_text}"
    )
