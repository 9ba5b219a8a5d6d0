"""``python -m benchmarks [names...] [--write]``: measure, show, and keep the result."""

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

from benchmarks.measure import Row

GROUPS = (
    "startup",
    "projection",
    "evaluation",
    "loader",
    "prepare",
    "small_loop",
    "checkpoints",
    "memory",
    "sweeps",
    "diagnostics",
    "resnet_step",
)
VERSIONS_OF = ("mla_lightning", "torch", "lightning", "torchmetrics", "hydra-core", "numpy")
README = Path(__file__).with_name("README.md")
HEADINGS = ("id", "what", "measured", "target", "", "behind it")


def main() -> int:
    """Run the groups named, all by default.

    Returns:
        0 if all promises are kept, 1 if one is not or a group fails.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--write", action="store_true", help="write benchmarks/README.md")
    options = parser.parse_args()
    if unknown := set(options.names) - set(GROUPS):
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(GROUPS)}")
    if options.write and options.names:
        parser.error("--write needs all groups; leave the names out")
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    sys.stdout.reconfigure(line_buffering=True)
    rows: list[Row] = []
    failed = []
    begin = time.perf_counter()
    for name in options.names or GROUPS:
        started = time.perf_counter()
        try:
            rows += importlib.import_module(f"benchmarks.{name}").measure()
        except Exception:  # the other groups still have something to say
            traceback.print_exc()
            failed.append(name)
        print(f"{name}: {time.perf_counter() - started:.0f} s")
    rows.sort(key=lambda row: (not row.id.startswith("P"), int("0" + row.id.lstrip("Ppeak"))))
    show(rows)
    took = time.perf_counter() - begin
    print(f"{took:.0f} s in all" + (f"; failed: {', '.join(failed)}" if failed else ""))
    if options.write and not failed:
        README.write_text(page(rows, took), encoding="utf-8")
    return 0 if rows and not failed and all(row.is_met for row in rows) else 1


def show(rows: list[Row]) -> None:
    """Print the rows as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEADINGS)
    for row in rows:
        table.add_row(*row.cells(), style=None if row.is_met else "bold red")
    Console(width=None if sys.stdout.isatty() else 130).print(table)


def page(rows: list[Row], took: float) -> str:
    """Write the page that keeps the result.

    Args:
        rows: The rows.
        took: Seconds of the whole run.

    Returns:
        Markdown.
    """
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS_OF)
    lines = [
        "# Benchmarks",
        "",
        "Written by `python -m benchmarks --write`; `make bench` measures without writing.",
        "Ratios are medians of runs that take turns in one process; on a shared machine they hold",
        "better than the milliseconds beside them.",
        "",
        f"- machine: {processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "- threads: 1, unless the last section says otherwise",
        f"- versions: Python {platform.python_version()}, {versions}",
        f"- date: {time.strftime('%Y-%m-%d')}; the run took {took:.0f} s",
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"|{'---|' * len(HEADINGS)}",
        *(f"| {' | '.join(row.cells())} |" for row in rows),
        "",
        "## How each is measured",
        "",
    ]
    lines += [f"- **{row.id}** {row.what}: {row.how}." for row in rows]
    return "\n".join(lines) + "\n"


def processor() -> str:
    """Name the processor's model."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
