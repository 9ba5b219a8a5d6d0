"""Measure speed and memory, print the values with their targets, and write README.md."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
import traceback
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Measurement

GROUPS = (
    "startup",
    "projection",
    "evaluation",
    "loader",
    "prepare",
    "stores",
    "imports",
    "small_loop",
    "checkpoints",
    "memory",
    "sweeps",
    "many_jobs",
    "diagnostics",
    "reports",
    "allocator",
    "resnet_step",
)
VERSIONS_OF = ("mla_lightning", "torch", "lightning", "torchmetrics", "hydra-core", "numpy")
README = Path(__file__).with_name("README.md")
HEADINGS = ("id", "what", "measured", "target", "", "details")


def main() -> int:
    """Run the named groups, all by default.

    Returns:
        0 if all targets are met, 1 if one is not or a group fails.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = f"any of {', '.join(GROUPS)}; default: all"
    parser.add_argument("names", nargs="*", metavar="NAME", help=known)
    parser.add_argument("--write", action="store_true", help="write benchmarks/README.md")
    options = parser.parse_args()
    if unknown := set(options.names) - set(GROUPS):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(GROUPS)}")
    if options.write and options.names:
        parser.error("--write needs all groups: give no names")
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    sys.stdout.reconfigure(line_buffering=True)
    rows: list[Measurement] = []
    failed = []
    start = time.perf_counter()
    for name in options.names or GROUPS:
        group_start = time.perf_counter()
        try:
            rows += importlib.import_module(f"benchmarks.{name}").measure()
        except Exception:  # the other groups can still be measured
            traceback.print_exc()
            failed.append(name)
        print(f"{name}: {time.perf_counter() - group_start:.0f} s")
    rows.sort(key=lambda row: (not row.id.startswith("P"), int("0" + row.id.lstrip("Ppeak"))))
    print_table(rows)
    total_s = time.perf_counter() - start
    print(f"{total_s:.0f} s in all" + (f"; failed: {', '.join(failed)}" if failed else ""))
    if options.write and not failed:
        README.write_text(to_markdown(rows, total_s), encoding="utf-8")
    return 0 if rows and not failed and all(row.is_met for row in rows) else 1


def print_table(rows: list[Measurement]) -> None:
    """Print the rows as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEADINGS)
    for row in rows:
        table.add_row(*row.cells(), style=None if row.is_met else "bold red")
    Console(width=None if sys.stdout.isatty() else 130).print(table)


def to_markdown(rows: list[Measurement], total_s: float) -> str:
    """Return the text of README.md.

    Args:
        rows: All measurements.
        total_s: Seconds of the whole run.

    Returns:
        Markdown.
    """
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS_OF)
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m benchmarks --write`; `make bench` measures without writing.",
        "Ratios are medians of runs that alternate in one process; on a shared machine they vary",
        "less than the milliseconds beside them.",
        "",
        f"- machine: {processor_name()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "- threads: 1, unless the last section says otherwise",
        f"- versions: Python {platform.python_version()}, {versions}",
        f"- date: {time.strftime('%Y-%m-%d')}; the run took {total_s:.0f} s",
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"|{'---|' * len(HEADINGS)}",
        *(f"| {' | '.join(row.cells())} |" for row in rows),
        "",
        "## How each is measured",
        "",
    ]
    lines += [f"- **{row.id}** {row.title}: {row.procedure}." for row in rows]
    return "\n".join(lines) + "\n"


def processor_name() -> str:
    """Return the name of the processor's model."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
