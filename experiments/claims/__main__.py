"""``python -m experiments.claims RUNS --output DIR``: test the paper's claims."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.claims.report import claims_report
from experiments.command import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report of a command line.

    Args:
        arguments: Arguments of the command line; by default those of this process.

    Returns:
        The exit code.
    """
    return run(
        claims_report,
        module="experiments.claims",
        description="Test the paper's claims: effect sizes, confidence intervals, corrected p.",
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
