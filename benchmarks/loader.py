"""P15: what a batch of data held in memory costs."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks.measure import Row, cpu
from benchmarks.setups import OPENMOJI, TINY, Setup

HOW = (
    "Process CPU time between asking the training loader for a batch and having it, median over "
    "several epochs after the first"
)


def measure() -> list[Row]:
    """Measure OpenMoji and feature vectors."""
    cases = (
        ("loader, OpenMoji, batch 32", 12, OPENMOJI),
        ("loader, features, batch 64", 3, TINY),
    )
    return [
        Row("P15", what, seconds_of(epochs, *overrides) * 1e6, 100, "µs", HOW)
        for what, epochs, overrides in cases
    ]


def seconds_of(epochs: int, *overrides: str) -> float:
    """Tell the median seconds of a batch."""
    with tempfile.TemporaryDirectory() as folder:
        loader = Setup(Path(folder) / "run", *overrides).data.train_dataloader()
    times = []
    for epoch in range(epochs + 1):
        begin = cpu()
        for _ in loader:
            took = cpu() - begin
            if epoch:
                times.append(took)
            begin = cpu()
    return statistics.median(times)
