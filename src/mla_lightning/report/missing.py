"""What a result tells of missing modalities, as columns of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


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
