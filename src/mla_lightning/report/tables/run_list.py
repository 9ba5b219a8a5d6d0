"""List of all runs: state, result, and the retry command of those without a result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mla_lightning.report.document.table import BLANK, Cell, Report, Row, Section, Table
from mla_lightning.report.read.run import MULTI, Run, Score
from mla_lightning.report.tables.notes import stale_warnings
from mla_lightning.run_folder import State
from mla_lightning.run_folder.completion import UNKNOWN

COLUMNS = ("state", "best epoch", "val acc", "test acc", "time", "selected on")


def ledger(runs: Sequence[Run]) -> Report:
    """Make the list of runs, by folder.

    Args:
        runs: Any runs.

    Returns:
        The report.

    Example:
        >>> ledger([Run(run="a", where="", state=State.FAILED, reason="diverged")]).title
        '1 run: 1 failed'
    """
    by_folder: dict[str, list[Run]] = {}
    for run in runs:
        by_folder.setdefault(_parent(run), []).append(run)
    sections = tuple(
        Section(folder, tuple(_row(run) for run in group)) for folder, group in by_folder.items()
    )
    counts = Counter(run.state for run in runs)
    states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    return Report(
        kind="runs",
        title=f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {states}",
        warnings=tuple(stale_warnings(runs)),
        tables=(
            Table(
                slug="",
                title="Accuracy (multi) in percent at the best epoch",
                corner="folder",
                columns=COLUMNS,
                sections=sections,
                notes=tuple(line for run in runs if not run.is_finished for line in _failure(run)),
            ),
        ),
    )


def _row(run: Run) -> Row:
    selected = {"paper": "TEST", "validation": "validation"}.get(run.protocol, run.protocol)
    is_stale = bool(run.stale) and run.stale != UNKNOWN
    texts = (
        f"{run.state}, earlier code" if is_stale else run.state,
        BLANK if run.best_epoch is None else f"{run.best_epoch} of {run.epochs}",
        _accuracy(run.scores.get("val")),
        _accuracy(run.scores.get("test")),
        _time(run.train_time_s),
        selected or BLANK,
    )
    return Row(run.run, tuple(Cell(text) for text in texts), is_quiet=not run.is_finished)


def _failure(run: Run) -> list[str]:
    lines = [f"{run.run}: {run.state}{f': {run.reason}' if run.reason else ''}"]
    if run.retry and run.state != State.RUNNING:
        lines.append(f"    retry: {run.retry}")
    return lines


def _parent(run: Run) -> str:
    if run.path is None:
        return run.where.rpartition(": ")[0]
    parent = run.path.resolve().parent
    current = Path.cwd()
    return str(parent.relative_to(current) if parent.is_relative_to(current) else parent)


def _accuracy(scores: Mapping[str, Score] | None) -> str:
    score = (scores or {}).get(MULTI)
    return BLANK if score is None else f"{score['accuracy_percent']:.1f}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return BLANK
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02.0f} s" if minutes else f"{seconds:.1f} s"
