"""Measurements with their targets, clocks, and calls in turn or in new processes."""

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

#: CPU time of this process: other users of a shared machine hardly change it.
cpu_clock = time.process_time


@dataclass(frozen=True)
class Measurement:
    """A measured value with its target.

    Attributes:
        id: The target's number, such as ``P4``.
        title: What is measured.
        value: The measured value.
        target: The largest value that meets the target.
        unit: Unit of both, such as ``x`` for a ratio.
        procedure: How it is measured, in one sentence.
        detail: The numbers that the value was computed from.
        is_strict: Whether the value must be below the target, not equal to it.

    Example:
        >>> step = Measurement("P1", "step / bare step", 1.021, 1.03, "x", "Ratio of the medians")
        >>> step.is_met, step.cells()
        (True, ('P1', 'step / bare step', '1.02 ×', '≤ 1.03 ×', 'ok', ''))
    """

    id: str
    title: str
    value: float
    target: float
    unit: str
    procedure: str
    detail: str = ""
    is_strict: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the value meets the target."""
        return self.value < self.target or (self.value == self.target and not self.is_strict)

    def cells(self) -> tuple[str, str, str, str, str, str]:
        """Return a table's cells: id, title, value, target, verdict, detail."""
        sign = "<" if self.is_strict else "≤"
        value, target = _format(self.value, self.unit), _format(self.target, self.unit)
        verdict = "ok" if self.is_met else "over"
        return self.id, self.title, value, f"{sign} {target}", verdict, self.detail


def _format(value: float, unit: str) -> str:
    if unit == "x":
        return f"{value:.3f} ×" if value < 0.2 else f"{value:.2f} ×"
    digits = 0 if value >= 100 or float(value).is_integer() else 2 if value < 10 else 1
    return f"{value:.{digits}f} {unit}"


def median_seconds(
    variants: Mapping[str, Callable[[], Any]],
    rounds: int,
    *,
    warmup_rounds: int = 1,
    calls: int = 1,
    clock: Callable[[], float] = cpu_clock,
) -> dict[str, float]:
    """Time variants in turn, so that a disturbance of the machine affects all of them.

    Args:
        variants: Name -> function to time.
        rounds: Measurements of each variant.
        warmup_rounds: Rounds before these, which are not measured.
        calls: Calls per measurement; more keep the data of a microsecond's work in the CPU cache.
        clock: Returns the time in seconds.

    Returns:
        Name -> median seconds per call.

    Example:
        >>> ticks = iter([0, 1, 10, 12, 100, 103])  # three rounds of 1, 2 and 3 seconds
        >>> median_seconds({"work": int}, 3, warmup_rounds=0, clock=lambda: next(ticks))
        {'work': 2.0}
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(warmup_rounds + rounds):
        for name, function in variants.items():
            start = clock()
            for _ in range(calls):
                function()
            seconds = (clock() - start) / calls
            if number >= warmup_rounds:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def call_in_new_process(function: str, *arguments: Any) -> Any:
    """Call a function in a new interpreter, which shares no memory and no imports with this one.

    Args:
        function: ``module.function`` of this package.
        *arguments: JSON-able arguments.

    Returns:
        The function's JSON-able return value.

    Raises:
        RuntimeError: If the call fails, with the end of its standard error.
    """
    module, _, name = function.rpartition(".")
    code = (
        f"import json, sys; from benchmarks.{module} import {name} as function; "
        "print(json.dumps(function(*json.loads(sys.argv[1]))))"
    )
    command = [sys.executable, "-c", code, json.dumps(arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if process.returncode:
        raise RuntimeError(f"{function} failed in its own process:\n{process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])
