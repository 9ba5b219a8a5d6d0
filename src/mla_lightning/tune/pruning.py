"""Which trials of a search end early: those below the median of the trials of earlier rounds.

It is the median stopping rule (Golovin et al., "Google Vizier", KDD 2017, section 3.2), as Optuna's
``MedianPruner`` has it. Only rounds that have ended are looked at, and never the trials that run at
the same time: a decision depends on the command alone, not on which job is faster, so a search that
was stopped decides the same again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from mla_lightning.report.read.variant import REFERENCE
from mla_lightning.run_folder import State
from mla_lightning.run_folder.columns import validation
from mla_lightning.run_folder.completion import changed_files
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.tasks import CLASSIFICATION, PRIMARY, Primary

if TYPE_CHECKING:
    from mla_lightning.config import Job

ACCURACY = PRIMARY[CLASSIFICATION]
#: Values of the option ``pruner``.
PRUNERS = ("none", "median")
#: Number of finished trials from which a median is taken.
NUM_STARTUP = 5
#: Fraction of the epochs in which no trial ends: low rates and warm-ups start slowly.
WARMUP = 1 / 3


def median_floor(curves: Sequence[Sequence[float]], num_epochs: int) -> tuple[float, ...]:
    """Compute the lowest score with which a trial goes on, after each epoch but the last.

    Args:
        curves: The best scores so far by epoch of finished trials, of the length ``num_epochs`` or,
            if a method stopped by itself, shorter.
        num_epochs: Number of epochs of a trial.

    Returns:
        The medians after epoch 1, 2, ...; -inf in the first :data:`WARMUP` of the epochs. Empty
        for fewer than :data:`NUM_STARTUP` curves.

    Example:
        >>> curves = [[0.1, 0.2, 0.5, 0.6], [0.3, 0.3, 0.3, 0.4], [0.2, 0.4, 0.4, 0.5]]
        >>> median_floor([*curves, *curves[1:]], num_epochs=4)
        (-inf, 0.3, 0.4)
        >>> median_floor(curves, num_epochs=4)
        ()
    """
    if len(curves) < NUM_STARTUP:
        return ()
    return tuple(
        median(curve[min(place, len(curve) - 1)] for curve in curves)
        if place + 1 > WARMUP * num_epochs
        else -math.inf
        for place in range(num_epochs - 1)
    )


def best_so_far(
    rows: Sequence[Mapping[str, float]], method: str, metric: Primary = ACCURACY
) -> list[float]:
    """Return the best score so far after each epoch, as it selects the epoch of the run.

    An error, of which smaller values are better, has a negative sign.

    Args:
        rows: The rows of ``metrics.csv``.
        method: The method; of the unimodal reference, the mean over the modalities' best values.
        metric: The metric that selects the epoch.

    Example:
        >>> rows = [{"val/acc": 0.5}, {"val/acc": 0.25}, {"val/acc": 0.75}]
        >>> best_so_far(rows, "mla")
        [0.5, 0.5, 0.75]
        >>> from mla_lightning.run_folder.tasks import PRIMARY
        >>> best_so_far([{"val/mae": 2.0}, {"val/mae": 3.0}], "mla", PRIMARY["regression"])
        [-2.0, -2.0]
    """
    column = validation(metric.column)
    keys = [key for key in (rows[0] if rows else ()) if key.startswith(f"{column}/")]
    best = dict.fromkeys(keys if method == REFERENCE else (column,), -math.inf)
    curve = []
    for row in rows:
        best = {key: max(value, metric.sign * row[key]) for key, value in best.items()}
        curve.append(sum(best.values()) / len(best))
    return curve


def is_pruned(job: Job) -> bool:
    """Return whether an earlier call with the same code has ended a job early.

    Args:
        job: A job of a search.
    """
    run = RunFiles(job.run_dir)
    return (
        run.state == State.PRUNED
        and run.provenance.get("identity") == job.identity
        and not changed_files(run.provenance)
    )
