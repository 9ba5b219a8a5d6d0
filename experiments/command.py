"""Command line of the scripts that write a report from runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mla_lightning.errors import MLAError
from mla_lightning.report.document.table import ReportBuilder
from mla_lightning.report.main import write_custom_report


def run(
    make: ReportBuilder, *, module: str, description: str, arguments: Sequence[str] | None = None
) -> int:
    """Write a report from the runs that the command line names.

    Args:
        make: Builds the report.
        module: Name of the module that ``python -m`` runs, for the help.
        description: Description of the report, for the help.
        arguments: Arguments of the command line; by default those of this process.

    Returns:
        The exit code. Expected errors are printed as one message, without a traceback.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUNS",
        help="run folders, folders above them, or results.csv files",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder of the files; by default `report` in the folder above the runs",
    )
    options = parser.parse_intermixed_args(arguments)
    try:
        return write_custom_report(make, options.runs, options.output)
    except MLAError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
