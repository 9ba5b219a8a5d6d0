"""A run's diagnostics and missing modalities in a few numbers: columns of its row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from mla_lightning.run_folder import columns
from mla_lightning.run_folder.reader import RunFiles


def diagnosed_columns(run: RunFiles) -> dict[str, Any]:
    """Summarise a run's diagnostics.

    Args:
        run: The run's files.

    Returns:
        Fields of a run; empty for a run without diagnostics.
    """
    rows, numbers = run.metrics, run.diagnostics
    if numbers is None:
        return {}
    scaled = (numbers.get("calibration") or {}).get("multi")
    gains = [
        one["when_right"] - one["when_wrong"]
        for one in (numbers.get("fusion") or {}).values()
        if {"when_right", "when_wrong"} <= one.keys()
    ]
    return {
        "forgetting": _mean(_all(crossed(rows, "loss"))),
        "forgetting_own": _mean(_all(crossed(rows, "own_loss"))),
        "forgetting_pairs": _by_pair(crossed(rows, "loss")),
        "gradient_cosine": _mean(_starting(rows, f"{columns.GRADIENT}raw/")),
        "projector_trace": _mean(_starting(rows[-1:], f"{columns.PROJECTOR}trace/")),
        "ece_scaled": round(scaled["after"]["width"]["ece"], 6) if scaled else None,
        "weight_gain": _mean(gains),
    }


def crossed(rows: Sequence[Mapping[str, float]], measure: str) -> dict[str, list[float]]:
    """Collect the changes of a modality by a step on another one, in thousandths.

    Args:
        rows: The epochs' rows.
        measure: As :func:`mla_lightning.run_folder.columns.forgetting` takes it.

    Returns:
        ``"<step> > <modality>"`` -> the changes of all epochs; nothing for methods whose steps
        train several modalities at once.
    """
    names = {key for row in rows for key in row if key.startswith(columns.FORGETTING)}
    found = {key: at for key in names if (at := columns.parse_forgetting(key)) is not None}
    modalities = {name for _, _, name in found.values()}  # steps may be joint, or on a+b
    changes: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            of, step, name = found.get(key, ("", "", ""))
            if of == measure and step != name and step in modalities:
                changes.setdefault(f"{step} > {name}", []).append(1000 * value)
    return changes


def _all(changes: Mapping[str, list[float]]) -> list[float]:
    return [value for values in changes.values() for value in values]


def _by_pair(changes: Mapping[str, list[float]]) -> str:
    return json.dumps({pair: _mean(v) for pair, v in changes.items()}) if changes else ""


def _starting(rows: Sequence[Mapping[str, float]], start: str) -> list[float]:
    return [value for row in rows for key, value in row.items() if key.startswith(start)]


def _mean(values: Sequence[float]) -> float | None:
    return round(fmean(values), 6) if values else None


def missing_columns(about: Mapping[str, Any] | None) -> dict[str, Any]:
    """Tell what was missing of the test samples, and the accuracy by pattern, in short.

    Args:
        about: What a result tells under ``missing``; None for nothing.

    Returns:
        Fields of a run; empty if nothing was missing by protocol.
    """
    if not about:
        return {}
    patterns = about["patterns"].get("test", {})
    found = {name: [one["num"], round(100 * one["accuracy"], 2)] for name, one in patterns.items()}
    return {
        "missing_percent": percent(about["realised_rate"].get("test")),
        "masks": str(about["mask_sha256"])[:12],
        "patterns": json.dumps(found),
    }


def percent(share: float | None) -> float | None:
    """Write a share in percent, rounded; None stays None."""
    return None if share is None else round(100 * float(share), 4)


def rounded(value: float | None, digits: int) -> float | None:
    """Round a number that may not be there."""
    return None if value is None else round(float(value), digits)
