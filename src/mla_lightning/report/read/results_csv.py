"""``results.csv``: one long table of all runs, from which every report can be made again."""

from __future__ import annotations

import csv
import shlex
import typing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from mla_lightning import run_folder as files
from mla_lightning.errors import RunError
from mla_lightning.report.read.run import Run, Score
from mla_lightning.run_folder import State
from mla_lightning.run_folder.csv_cells import csv_text, unescape_cell
from mla_lightning.run_folder.parsing import MAX_NUMBER

RESULTS = "results.csv"
#: Fields of a run that are not written.
NOT_COLUMNS = ("where", "path")
#: Fields of a run that are not written, or not as one column with a conversion of type.
SPECIAL = ("overrides", "scores", *NOT_COLUMNS)
#: Columns that state what the scores of a row are of.
SCORE_OF = ("modality", "split")
#: Columns of scores that every table has, in this order; those of other metrics follow.
SCORES = (
    *("accuracy_percent", "macro_f1_percent", "ece", "probe_percent"),
    *("macro_recall_percent", "weighted_f1_percent"),
)
#: Scores that are fractions -> their largest value in the table's unit.
HIGHEST = {
    **dict.fromkeys(("accuracy_percent", "macro_f1_percent", "probe_percent"), 100.0),
    **dict.fromkeys(("macro_recall_percent", "weighted_f1_percent", "majority_percent"), 100.0),
    "ece": 1.0,
}
#: Largest number of lines of one row, whose cells may hold line breaks.
MAX_LINES = 50
#: Columns without which a file is no results table.
REQUIRED = (
    *("dataset", "method", "ablation", "overrides", "seed", *SCORE_OF, "accuracy_percent"),
    *("state", "identity", "run"),
)


def columns_of(runs: Sequence[Run]) -> list[str]:
    """Return the columns of the results table of some runs.

    Args:
        runs: The runs.

    Returns:
        The fields of a run, with the scores in the place of ``scores``; optional fields only where
        a run has them.

    Example:
        >>> columns_of([])[:8]
        ['dataset', 'method', 'ablation', 'overrides', 'seed', 'modality', 'split',
         'accuracy_percent']
    """
    scored = {
        name
        for run in runs
        for by_modality in run.scores.values()
        for score in by_modality.values()
        for name in score
    }
    columns = []
    for item in fields(Run):
        if item.name == "scores":
            columns += [*SCORE_OF, *SCORES, *sorted(scored - set(SCORES))]
        elif item.name not in NOT_COLUMNS:
            is_optional = item.metadata.get("optional", False)
            if not is_optional or any(getattr(run, item.name) for run in runs):
                columns.append(item.name)
    return columns


def write_csv(path: Path, runs: Iterable[Run]) -> None:
    """Write runs as a long table.

    Args:
        path: The file; replaced atomically.
        runs: The runs; each has the rows that :func:`rows_of` returns.
    """
    all_runs = list(runs)
    rows = (row for run in all_runs for row in rows_of(run))
    files.write_text(path, csv_text(columns_of(all_runs), rows))


def rows_of(run: Run) -> list[dict[str, Any]]:
    """Return a run's rows: one per split and modality, or one with its state if it has no scores.

    Example:
        >>> scores = {"test": {"audio": {"ece": 0.1}, "multi": {"ece": 0.2}}}
        >>> rows = rows_of(Run(run="a", where="", state=State.FINISHED, seed=0, scores=scores))
        >>> [(row["seed"], row["split"], row["modality"], row["ece"]) for row in rows]
        [(0, 'test', 'audio', 0.1), (0, 'test', 'multi', 0.2)]
    """
    common = {
        item.name: getattr(run, item.name)
        for item in fields(Run)
        if item.name not in (*NOT_COLUMNS, "scores")
    }
    common["overrides"] = shlex.join(f"{key}={value}" for key, value in run.overrides)
    scores = [(s, m, score) for s, by in run.scores.items() for m, score in by.items()]
    return [
        {**common, "split": split, "modality": modality, **score}
        for split, modality, score in scores
    ] or [common]


def read_csv(path: Path) -> list[Run]:
    """Read the runs of a long table.

    Args:
        path: A file that :func:`write_csv` wrote, also in an earlier version.

    Returns:
        The runs, in the order of their first rows.

    Raises:
        RunError: If it is no results table. A run of which a row cannot be read is in state
            ``unreadable``, with the number of the line and the problem.
    """
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    columns = _cells(lines[0])
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise RunError(f"{path} is no results table: its columns lack {', '.join(missing)}")
    if twice := [name for name, count in Counter(columns).items() if count > 1]:
        raise RunError(f"{path} is no results table: it has {', '.join(twice)} twice")
    rows_of_run: dict[tuple[str, str], list[tuple[int, dict[str, str]]]] = {}
    damaged: list[tuple[int, list[str]]] = []
    for number, cells in _records(lines, len(columns)):
        if len(cells) != len(columns):
            damaged.append((number, cells))
            continue
        row = dict(zip(columns, map(unescape_cell, cells), strict=True))
        rows_of_run.setdefault((row["run"], row["identity"]), []).append((number, row))
    runs = {key: _run_of(path, rows) for key, rows in rows_of_run.items()}
    others = []
    for number, cells in damaged:
        key = next((k for k, rows in rows_of_run.items() if _may_be_of(cells, rows[0][1])), None)
        row = rows_of_run[key][0][1] if key else {}
        run = _unreadable(path, f"line {number}", row, "wrong number of columns")
        if key:
            runs[key] = run
        else:
            others.append(run)
    return [*runs.values(), *others]


def _may_be_of(cells: Sequence[str], row: Mapping[str, str]) -> bool:
    """Return whether a damaged row may be of the run of another row."""
    columns = REQUIRED[: REQUIRED.index("seed") + 1]
    return row["identity"] in cells or [row[name] for name in columns] == cells[: len(columns)]


def _cells(line: str) -> list[str]:
    return next(csv.reader([line]), [])


def _records(lines: Sequence[str], num_columns: int) -> Iterator[tuple[int, list[str]]]:
    """Yield number and cells of each record after the first line.

    A record is one line, unless its cells hold line breaks: a quote in a damaged line must not
    make the lines after it a part of it.
    """
    place = 1
    while place < len(lines):
        cells = _cells(lines[place])
        length = 1
        if len(cells) < num_columns:
            for length in range(2, min(MAX_LINES, len(lines) - place) + 1):
                records = list(csv.reader(f"{x}\n" for x in lines[place : place + length]))
                if len(records) == 1 and len(records[0]) == num_columns:
                    cells = records[0]
                    break
            else:
                length = 1
        if cells:
            yield place + 1, cells
        place += length


def _run_of(path: Path, rows: Sequence[tuple[int, Mapping[str, str]]]) -> Run:
    """Return the run of some rows, unreadable if one of them is damaged: none is left out."""
    first = rows[0][1]
    scored = [name for name in first if name not in (*_converters(), *SCORE_OF, *SPECIAL)]
    common = [name for name in first if name not in (*SCORE_OF, *scored)]
    scores: dict[str, dict[str, Score]] = {}
    for number, row in rows:
        try:
            if differing := [name for name in common if row[name] != first[name]]:
                raise ValueError(f"{differing[0]} is not that of line {rows[0][0]}")
            run = _run(path, row)
            if row["split"]:
                score = {name: _score(name, row[name]) for name in scored if row[name]}
                by_modality = scores.setdefault(row["split"], {})
                if row["modality"] in by_modality:
                    raise ValueError(f"duplicate row: {row['modality']}, {row['split']}")
                by_modality[row["modality"]] = score
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            return _unreadable(path, f"line {number}", first, str(error))
    return replace(run, scores=scores)


def _run(path: Path, row: Mapping[str, str]) -> Run:
    """Return a run without its scores."""
    if any("\udc80" <= char <= "\udcff" for char in "".join(row.values())):
        raise ValueError("it is no text in UTF-8")
    pairs = [item.partition("=") for item in shlex.split(row["overrides"])]
    return Run(
        where=f"{path}: {row['run']}",
        overrides=tuple((name, value) for name, _, value in pairs),
        **{name: read(row[name]) for name, read in _converters().items() if name in row},
    )


def _score(name: str, text: str) -> float:
    value = _number(text)
    if name in HIGHEST and not 0 <= value <= HIGHEST[name]:
        raise ValueError(f"{name} is {text}, not between 0 and {HIGHEST[name]:g}")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not abs(value) <= MAX_NUMBER:  # NaN, too
        raise ValueError(f"{text} is no number that can be measured")
    return value


def _unreadable(path: Path, place: str, row: Mapping[str, str], problem: str) -> Run:
    """Return a run whose rows are damaged, with what they still state of it."""

    def text(name: str) -> str:
        return row.get(name, "").encode("utf-8", "replace").decode()

    seed = row.get("seed", "")
    return Run(
        run=text("run") or place,
        where=f"{path}: {text('run') or place}",
        state=State.UNREADABLE,
        reason=f"{path}, {place}: {problem}",
        dataset=text("dataset"),
        method=text("method"),
        name=text("name"),
        protocol=text("protocol"),
        data_split=text("data_split"),
        seed=int(seed) if seed.isdecimal() and len(seed) < 10 else None,
    )


@cache
def _converters() -> dict[str, Callable[[str], Any]]:
    """Return by column the function that converts its text to the value of a run's field."""
    hints = typing.get_type_hints(Run)
    by_type: dict[Any, Callable[[str], Any]] = {
        str: str,
        State: State,
        int | None: lambda text: int(text) if text else None,
        float | None: lambda text: _number(text) if text else None,
    }
    return {f.name: by_type[hints[f.name]] for f in fields(Run) if f.name not in SPECIAL}
