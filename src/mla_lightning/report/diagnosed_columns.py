"""What a run's diagnostics come to in a few numbers, as columns of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from mla_lightning.run_folder import DIAGNOSTICS, read_json, read_metrics

#: Columns of the epochs' table: how a step changes a modality's loss.
CHANGE = "forgetting/loss/"


def diagnosed_columns(folder: Path) -> dict[str, Any]:
    """Summarise a run's diagnostics.

    Args:
        folder: The run folder.

    Returns:
        Fields of a run; empty for a run without diagnostics.
    """
    numbers = read_json(folder / DIAGNOSTICS)
    if numbers is None:
        return {}
    rows = read_metrics(folder)
    changes: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            if key.startswith(CHANGE) and _is_crossed(key):
                pair = " > ".join(key.removeprefix(CHANGE).rsplit("/", 1))
                changes.setdefault(pair, []).append(1000 * value)
    scaled = (numbers.get("calibration") or {}).get("multi")
    gains = [
        one["when_right"] - one["when_wrong"]
        for one in (numbers.get("fusion") or {}).values()
        if {"when_right", "when_wrong"} <= one.keys()
    ]
    return {
        "forgetting": _mean([value for values in changes.values() for value in values]),
        "forgetting_pairs": json.dumps({pair: _mean(v) for pair, v in changes.items()})
        if changes
        else "",
        "gradient_cosine": _mean(_starting(rows, "gradient/raw/")),
        "projector_trace": _mean(_starting(rows[-1:], "projector/trace/")),
        "ece_scaled": round(scaled["after"]["width"]["ece"], 6) if scaled else None,
        "weight_gain": _mean(gains),
    }


def _is_crossed(key: str) -> bool:
    """Whether a step's change is that of another modality than the one it trains."""
    step, name = key.removeprefix(CHANGE).rsplit("/", 1)
    return "+" not in step and step != name


def _starting(rows: Sequence[Mapping[str, float]], start: str) -> list[float]:
    return [value for row in rows for key, value in row.items() if key.startswith(start)]


def _mean(values: Sequence[float]) -> float | None:
    return round(fmean(values), 6) if values else None
