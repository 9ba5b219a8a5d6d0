"""``python -m experiments.candidates RUNS --output DIR``: the choice and the answer."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.candidates.report import candidates_report
from experiments.command import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report of a command line.

    Args:
        arguments: Arguments of the command line; by default those of this process.

    Returns:
        The exit code.
    """
    return run(
        candidates_report,
        module="experiments.candidates",
        description="Show the choice among candidates on validation, and one question on test.",
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(main())
