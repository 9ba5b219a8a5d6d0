"""P15: the cost of a batch of data in memory."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from benchmarks.measure import Measurement, cpu_clock
from benchmarks.setups import OPENMOJI, TINY, Setup

PROCEDURE = (
    "Process CPU time from the request of a batch to its delivery by the training loader, median "
    "over several epochs after the first"
)


def measure() -> list[Measurement]:
    """Measure OpenMoji and feature vectors."""
    cases = (
        ("loader, OpenMoji, batch 32", 12, OPENMOJI),
        ("loader, features, batch 64", 3, TINY),
    )
    return [
        Measurement("P15", title, batch_seconds(epochs, *overrides) * 1e6, 100, "µs", PROCEDURE)
        for title, epochs, overrides in cases
    ]


def batch_seconds(num_epochs: int, *overrides: str) -> float:
    """Return the median seconds of a batch."""
    with tempfile.TemporaryDirectory() as folder:
        loader = Setup(Path(folder) / "run", *overrides).data.train_dataloader()
    times = []
    for epoch in range(num_epochs + 1):
        start = cpu_clock()
        for _ in loader:
            seconds = cpu_clock() - start
            if epoch:
                times.append(seconds)
            start = cpu_clock()
    return statistics.median(times)
