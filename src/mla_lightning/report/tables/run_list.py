"""List of all runs: state, result, and the retry command of those without a result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from mla_lightning.report.document.table import BLANK, Cell, Report, Row, Section, Table
from mla_lightning.report.read.metrics import ACCURACY, primary_metric
from mla_lightning.report.read.run import MULTI, Run
from mla_lightning.report.tables.notes import stale_warnings
from mla_lightning.run_folder import State
from mla_lightning.run_folder.completion import UNKNOWN

#: Columns before and after those of the scores.
FIRST, LAST = ("state", "best epoch"), ("time", "selected on")


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
    tasks = {run.task for run in runs if run.is_finished} or {""}
    title, columns = _header(next(iter(tasks)) if len(tasks) == 1 else None)
    sections = tuple(
        Section(folder, tuple(_row(run, with_metric=len(tasks) > 1) for run in group))
        for folder, group in by_folder.items()
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
                title=title,
                corner="folder",
                columns=(*FIRST, *columns, *LAST),
                sections=sections,
                notes=tuple(line for run in runs if not run.is_finished for line in _failure(run)),
            ),
        ),
    )


def _header(task: str | None) -> tuple[str, tuple[str, ...]]:
    """Return title and columns of the scores; None for runs of several tasks."""
    if task is None:
        title = "Score (multi) at the best epoch, by the metric of the task"
        return title, ("metric", "val", "test")
    metric = primary_metric(task)
    short = "acc" if metric.name == ACCURACY else metric.label
    label = f"{metric.label[0].upper()}{metric.label[1:]}"
    return f"{label} (multi){metric.unit} at the best epoch", (f"val {short}", f"test {short}")


def _row(run: Run, *, with_metric: bool) -> Row:
    selected = {"paper": "TEST", "validation": "validation"}.get(run.protocol, run.protocol)
    is_stale = bool(run.stale) and run.stale != UNKNOWN
    texts = (
        f"{run.state}, earlier code" if is_stale else run.state,
        BLANK if run.best_epoch is None else f"{run.best_epoch} of {run.epochs}",
        *((_metric_name(run),) if with_metric else ()),
        *(_score(run, split) for split in ("val", "test")),
        _time(run.train_time_s),
        selected or BLANK,
    )
    return Row(run.run, tuple(Cell(text) for text in texts), is_quiet=not run.is_finished)


def _failure(run: Run) -> list[str]:
    lines = [f"{run.run}: {run.state}{f': {run.reason}' if run.reason else ''}"]
    if run.retry and run.state not in (State.RUNNING, State.QUEUED):
        lines.append(f"    retry: {run.retry}")
    return lines


def _parent(run: Run) -> str:
    if run.path is None:
        return run.where.rpartition(": ")[0]
    parent = run.path.resolve().parent
    current = Path.cwd()
    return str(parent.relative_to(current) if parent.is_relative_to(current) else parent)


def _metric_name(run: Run) -> str:
    metric = primary_metric(run.task)
    return f"{metric.label}{metric.axis_unit}" if run.is_finished else BLANK


def _score(run: Run, split: str) -> str:
    score = run.scores.get(split, {}).get(MULTI)
    if score is None:
        return BLANK
    metric = primary_metric(run.task)
    value = score[metric.column]
    return metric.at_scale(value).text(value)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return BLANK
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02.0f} s" if minutes else f"{seconds:.1f} s"
