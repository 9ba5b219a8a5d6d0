"""Best values of metrics, and which values are the best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mla_lightning.loggers.rows import total_loss
from mla_lightning.run_folder.columns import TRAIN_LOSS, validation
from mla_lightning.run_folder.config import RunConfig


def directions(config: RunConfig) -> dict[str, str]:
    """Return which value of each validation metric is the best, by its column.

    Args:
        config: The resolved config.

    Returns:
        Column of the fused prediction -> ``max`` or ``min``.

    Example:
        >>> from mla_lightning.config import compose_jobs
        >>> (job,) = compose_jobs(["data=synthetic", "method=mla"])
        >>> directions(job.config)
        {'val/acc': 'max', 'val/ece': 'min', 'val/f1_macro': 'max'}
    """
    return {
        validation(metric["epoch"]): "min" if metric.get("lower_is_better") else "max"
        for metric in config.metrics.values()
        if metric.get("epoch")
    }


def best_value(key: str, best: Mapping[str, str]) -> str | None:
    """Return which value of a metric is its best, None for one that has no best value.

    Args:
        key: The metric.
        best: Validation metric of the fused prediction -> ``max`` or ``min``.

    Example:
        >>> best = {"val/acc": "max", "val/ece": "min"}
        >>> [best_value(key, best) for key in ("val/acc/audio", "val/ece", "train/loss", "lr")]
        ['max', 'min', 'min', None]
    """
    if f"{key}/".startswith(TRAIN_LOSS):
        return "min"
    return next((kind for name, kind in best.items() if f"{key}/".startswith(f"{name}/")), None)


def best_values(
    rows: Sequence[Mapping[str, float]], best: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Return the best and the last value of each metric, as W&B's summary names them.

    Args:
        rows: Metric -> value, for each epoch.
        best: Validation metric of the fused prediction -> ``max`` or ``min``.

    Example:
        >>> best_values([{"lr": 0.1, "val/acc": 0.75}, {"val/acc": 0.5}], {"val/acc": "max"})
        {'val/acc': {'max': 0.75, 'last': 0.5}}
    """
    columns: dict[str, list[float]] = {}
    for row in rows:
        for key, value in {**row, **total_loss(row)}.items():
            columns.setdefault(key, []).append(value)
    return {
        key: {kind: (max if kind == "max" else min)(values), "last": values[-1]}
        for key, values in columns.items()
        if (kind := best_value(key, best)) is not None
    }
