"""``results.csv``: one long table of all runs, from which every report can be made again."""

from __future__ import annotations

import csv
import io
import shlex
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from mla_lightning import run_folder as files
from mla_lightning.errors import RunError
from mla_lightning.report.read.run import Run
from mla_lightning.run_folder import State

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
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(all_runs), lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for run in all_runs:
        writer.writerows(rows_of(run))
    files.write_text(path, text.getvalue())


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
        RunError: If columns are missing or a row cannot be read. The message names its line.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
        if missing:
            raise RunError(f"{path} is no results table: its columns lack {', '.join(missing)}")
        runs: dict[tuple[str, str], Run] = {}
        try:
            for row in reader:
                _add_row(runs, row, path)
        except (TypeError, ValueError, csv.Error) as error:
            raise RunError(f"{path}, line {reader.line_num}: {error}") from error
    return list(runs.values())


def _add_row(runs: dict[tuple[str, str], Run], row: Mapping[str, str], path: Path) -> None:
    if None in row or None in row.values():
        raise ValueError("wrong number of columns")
    key = (row["run"], row["identity"])
    if key not in runs:
        pairs = [item.partition("=") for item in shlex.split(row["overrides"])]
        runs[key] = Run(
            where=f"{path}: {row['run']}",
            overrides=tuple((name, value) for name, _, value in pairs),
            **{name: read(row[name]) for name, read in _converters().items() if name in row},
        )
    if row["split"]:
        scores = runs[key].scores.setdefault(row["split"], {})
        if row["modality"] in scores:
            raise ValueError(f"duplicate row of {row['run']}: {row['modality']}, {row['split']}")
        names = [name for name in row if name not in (*_converters(), *SCORE_OF, *SPECIAL)]
        scores[row["modality"]] = {name: float(row[name]) for name in names if row[name]}


@cache
def _converters() -> dict[str, Callable[[str], Any]]:
    """Return by column the function that converts its text to the value of a run's field."""
    hints = typing.get_type_hints(Run)
    by_type: dict[Any, Callable[[str], Any]] = {
        str: str,
        State: State,
        int | None: lambda text: int(text) if text else None,
        float | None: lambda text: float(text) if text else None,
    }
    return {f.name: by_type[hints[f.name]] for f in fields(Run) if f.name not in SPECIAL}
