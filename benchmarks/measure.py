"""What every benchmark is made of: rows, clocks, interleaved repetitions, fresh processes."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: Processor time of this process: other users of a shared machine hardly change it.
cpu = time.process_time


@dataclass(frozen=True)
class Row:
    """One measured promise.

    Attributes:
        id: Number of the promise.
        what: What is measured.
        value: The measurement.
        limit: The most it may be.
        unit: Unit of both, such as ``x`` for a ratio.
        how: How it is measured, one sentence.
        detail: The numbers behind the value.
        strict: Whether the value must stay below the limit, not only at it.
    """

    id: str
    what: str
    value: float
    limit: float
    unit: str
    how: str
    detail: str = ""
    strict: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the promise is kept."""
        return self.value < self.limit or (self.value == self.limit and not self.strict)

    def cells(self) -> tuple[str, str, str, str, str, str]:
        """Write the row as texts: id, what, measured, target, verdict, detail."""
        sign = "<" if self.strict else "≤"
        measured, target = _number(self.value, self.unit), _number(self.limit, self.unit)
        verdict = "ok" if self.is_met else "over"
        return self.id, self.what, measured, f"{sign} {target}", verdict, self.detail


def _number(value: float, unit: str) -> str:
    if unit == "x":
        return f"{value:.3f} ×" if value < 0.2 else f"{value:.2f} ×"
    digits = 0 if value >= 100 or float(value).is_integer() else 2 if value < 10 else 1
    return f"{value:.{digits}f} {unit}"


def interleaved(
    variants: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    warm: int = 1,
    block: int = 1,
    clock: Callable[[], float] = cpu,
) -> dict[str, float]:
    """Run variants in turn, so that whatever disturbs the machine disturbs all of them.

    Args:
        variants: What to run, by name.
        rounds: How often each is measured.
        warm: How often each is run before.
        block: Calls per measurement; more keep what a microsecond's work needs in the cache.
        clock: Tells the time in seconds.

    Returns:
        Median seconds per call by name.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(warm + rounds):
        for name, run in variants.items():
            begin = clock()
            for _ in range(block):
                run()
            took = (clock() - begin) / block
            if number >= warm:
                times[name].append(took)
    return {name: statistics.median(values) for name, values in times.items()}


def fresh(function: str, *arguments: Any) -> Any:
    """Call a function in a new interpreter, whose memory and imports are its own.

    Args:
        function: ``module.function`` below this package.
        *arguments: JSON-able arguments.

    Returns:
        What it returns, JSON-able.

    Raises:
        RuntimeError: If it fails, with what it wrote to standard error.
    """
    module, _, name = function.rpartition(".")
    code = (
        f"import json, sys; from benchmarks.{module} import {name} as run; "
        "print(json.dumps(run(*json.loads(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{function} failed in its own process:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])
