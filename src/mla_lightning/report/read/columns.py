"""Summaries of a run's diagnostics and missing modalities, as columns of ``results.csv``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from mla_lightning.report.read.metrics import MetricDisplay
from mla_lightning.run_folder import columns
from mla_lightning.run_folder.reader import RunFiles


def diagnostics_columns(run: RunFiles) -> dict[str, Any]:
    """Summarise a run's diagnostics.

    Args:
        run: The run's files.

    Returns:
        Fields of a run; empty for a run without diagnostics.
    """
    rows, diagnostics = run.metrics, run.diagnostics
    if diagnostics is None:
        return {}
    scaling = (diagnostics.get("calibration") or {}).get("multi")
    weight_gains = [
        weights["when_right"] - weights["when_wrong"]
        for weights in (diagnostics.get("fusion") or {}).values()
        if {"when_right", "when_wrong"} <= weights.keys()
    ]
    changes = cross_modality_changes(rows, "loss")
    return {
        "forgetting": _mean(_flatten(changes)),
        "forgetting_own": _mean(_flatten(cross_modality_changes(rows, "own_loss"))),
        "forgetting_pairs": _by_pair(changes),
        "gradient_cosine": _mean(_with_prefix(rows, f"{columns.GRADIENT}raw/")),
        "projector_trace": _mean(_with_prefix(rows[-1:], f"{columns.PROJECTOR}trace/")),
        "ece_scaled": round(scaling["after"]["width"]["ece"], 6) if scaling else None,
        "weight_gain": _mean(weight_gains),
    }


def cross_modality_changes(
    rows: Sequence[Mapping[str, float]], measure: str
) -> dict[str, list[float]]:
    """Collect by how much steps on one modality change a measure of another one.

    Args:
        rows: The rows of ``metrics.csv``, one per epoch.
        measure: As :func:`mla_lightning.run_folder.columns.forgetting` takes it.

    Returns:
        ``"<step> > <modality>"`` -> the changes of all epochs, in thousandths; empty for methods
        whose steps train several modalities at once.

    Example:
        >>> row = {"forgetting/loss/audio/audio": -0.5, "forgetting/loss/audio/visual": 0.002}
        >>> cross_modality_changes([row, {"forgetting/loss/visual/audio": 0.004}], "loss")
        {'audio > visual': [2.0], 'visual > audio': [4.0]}
    """
    names = {key for row in rows for key in row if key.startswith(columns.FORGETTING)}
    parsed = {key: entry for key in names if (entry := columns.parse_forgetting(key)) is not None}
    modalities = {name for _, _, name in parsed.values()}  # a step may also be joint, or on a+b
    changes: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            measured, step, name = parsed.get(key, ("", "", ""))
            if measured == measure and step != name and step in modalities:
                changes.setdefault(f"{step} > {name}", []).append(1000 * value)
    return changes


def _flatten(changes: Mapping[str, list[float]]) -> list[float]:
    return [value for values in changes.values() for value in values]


def _by_pair(changes: Mapping[str, list[float]]) -> str:
    return json.dumps({pair: _mean(v) for pair, v in changes.items()}) if changes else ""


def _with_prefix(rows: Sequence[Mapping[str, float]], prefix: str) -> list[float]:
    return [value for row in rows for key, value in row.items() if key.startswith(prefix)]


def _mean(values: Sequence[float]) -> float | None:
    return round(fmean(values), 6) if values else None


def missing_modality_columns(
    missing: Mapping[str, Any] | None, metric: MetricDisplay
) -> dict[str, Any]:
    """Summarise which modalities of the test samples were missing, and the score by pattern.

    Args:
        missing: The ``missing`` entry of a result; None if no modality was missing by protocol.
        metric: The primary metric of the run's task.

    Returns:
        Fields of a run; empty for None.
    """
    if not missing:
        return {}
    patterns = {
        name: [samples["num"], _pattern_score(samples[metric.name], metric)]
        for name, samples in missing["patterns"].get("test", {}).items()
    }
    return {
        "missing_percent": to_percent(missing["realised_rate"].get("test")),
        "masks": str(missing["mask_sha256"])[:12],
        "patterns": json.dumps(patterns),
    }


def _pattern_score(value: float, metric: MetricDisplay) -> float:
    return round(100 * value, 2) if metric.percent else metric.column_value(value)


def to_percent(fraction: float | None) -> float | None:
    """Convert a fraction to percent with four decimals; None stays None.

    Example:
        >>> to_percent(0.123456789), to_percent(None)
        (12.3457, None)
    """
    return None if fraction is None else round(100 * float(fraction), 4)


def round_optional(value: float | None, digits: int) -> float | None:
    """Round a number; None stays None."""
    return None if value is None else round(float(value), digits)
