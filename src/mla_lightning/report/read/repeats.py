"""Several runs of one variant and seed: which of them a table shows."""

from __future__ import annotations

from collections.abc import Sequence

from mla_lightning.report.read.run import Run
from mla_lightning.run_folder import RESULT, State


def precedence(run: Run) -> int:
    """Return the place of a run among those of one variant and seed: a finished one is the first.

    Example:
        >>> runs = [Run(run="a", where="", state=state) for state in (State.FAILED, State.FINISHED)]
        >>> min(runs, key=precedence).is_finished
        True
    """
    order = (
        State.FINISHED,
        State.RUNNING,
        State.QUEUED,
        State.PREEMPTED,
        State.INTERRUPTED,
        State.KILLED,
        State.PRUNED,
        State.FAILED,
        State.UNREADABLE,
    )
    return order.index(run.state) if run.state in order else len(order)


def finished_at(run: Run) -> float:
    """Return the time at which a run wrote its result, in seconds."""
    assert run.path is not None
    return (run.path / RESULT).stat().st_mtime


def conflict_message(pairs: Sequence[tuple[Run, Run]]) -> str:
    """Return the message on finished runs of which a table can show only one.

    Args:
        pairs: Two runs each; not empty.

    Example:
        >>> run = Run(run="a", where="a", state=State.FINISHED, dataset="my", method="mla", seed=0)
        >>> conflict_message([(run, run)]).partition(" of ")[0]
        'my mla seed 0 has two finished runs'
    """
    first, second = pairs[0]
    lines = [
        f"{first.dataset} {first.method} seed {first.seed} has two finished runs of different "
        "configurations or data:",
        f"  {first.where} (identity {first.identity}, code {first.code or 'unknown'})",
        f"  {second.where} (identity {second.identity}, code {second.code or 'unknown'})",
    ]
    if len(pairs) > 1:
        lines.append(f"{len(pairs) - 1} more such pairs were found.")
    if first.data != second.data:
        lines.append("The data differ between the two.")
    lines.append(
        "A table takes one run per method, setting and seed: name only the folders that it is to "
        "show (mla report KIND RUN RUN ...), or move the others to another folder."
    )
    return "\n".join(lines)
