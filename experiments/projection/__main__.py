"""``python -m experiments.projection RUNS --output DIR``: compare projection modes."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.command import run
from experiments.projection.report import projection_report


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report of a command line.

    Args:
        arguments: Arguments of the command line; by default those of this process.

    Returns:
        The exit code.
    """
    return run(
        projection_report,
        module="experiments.projection",
        description="Compare projection modes on validation, by length of training.",
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
