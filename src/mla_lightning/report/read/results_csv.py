"""``results.csv``: all runs in one long table, which alone makes every report again."""

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
#: Fields of a run that are no columns, or that need more than a conversion of type.
NOT_COLUMNS = ("where", "path")
BY_HAND = ("overrides", "scores", *NOT_COLUMNS)
#: What a row says of its score: which one it is, and its value.
OF_ROW = ("modality", "split")
#: Columns of scores that all tables have, in their order; those of other metrics follow.
SCORES = (
    *("accuracy_percent", "macro_f1_percent", "ece", "probe_percent"),
    *("macro_recall_percent", "weighted_f1_percent"),
)
#: Columns without which a file is no table of results.
REQUIRED = (
    *("dataset", "method", "ablation", "overrides", "seed", *OF_ROW, "accuracy_percent"),
    *("state", "identity", "run"),
)


def columns_of(runs: Sequence[Run]) -> list[str]:
    """Return the columns of a table of some runs: the fields of a run, and their scores.

    Args:
        runs: The runs.
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
            columns += [*OF_ROW, *SCORES, *sorted(scored - set(SCORES))]
        elif item.name not in NOT_COLUMNS:
            is_optional = item.metadata.get("optional", False)
            if not is_optional or any(getattr(run, item.name) for run in runs):
                columns.append(item.name)
    return columns


def write_csv(path: Path, runs: Iterable[Run]) -> None:
    """Write runs as a long table: one row per run, split and modality.

    Args:
        path: The file; replaced atomically.
        runs: The runs. One without numbers has one row that tells its state.
    """
    rows = list(runs)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(rows), lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for run in rows:
        writer.writerows(rows_of(run))
    files.write_text(path, text.getvalue())


def rows_of(run: Run) -> list[dict[str, Any]]:
    """Return a run's rows, one per split and modality; a single one for a run without numbers."""
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
        path: A file that :func:`write_csv` wrote, also one of an earlier version.

    Returns:
        The runs, in the order of their first rows.

    Raises:
        RunError: If columns are missing or a row cannot be read, naming its line.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in REQUIRED if name not in (reader.fieldnames or ())]
        if missing:
            raise RunError(f"{path} is no table of results: it lacks {', '.join(missing)}")
        runs: dict[tuple[str, str], Run] = {}
        try:
            for row in reader:
                _add(runs, row, path)
        except (TypeError, ValueError, csv.Error) as error:
            raise RunError(f"{path}, line {reader.line_num}: {error}") from error
    return list(runs.values())


def _add(runs: dict[tuple[str, str], Run], row: Mapping[str, str], path: Path) -> None:
    if None in row or None in row.values():
        raise ValueError("wrong number of cells")
    key = (row["run"], row["identity"])
    if key not in runs:
        pairs = [item.partition("=") for item in shlex.split(row["overrides"])]
        runs[key] = Run(
            where=f"{path}: {row['run']}",
            overrides=tuple((name, value) for name, _, value in pairs),
            **{name: read(row[name]) for name, read in _readers().items() if name in row},
        )
    if row["split"]:
        scores = runs[key].scores.setdefault(row["split"], {})
        if row["modality"] in scores:
            raise ValueError(f"{row['run']} has {row['modality']}, {row['split']} twice")
        names = [name for name in row if name not in (*_readers(), *OF_ROW, *BY_HAND)]
        scores[row["modality"]] = {name: float(row[name]) for name in names if row[name]}


@cache
def _readers() -> dict[str, Callable[[str], Any]]:
    """Return what turns a cell into the value of a run's field, by column."""
    hints = typing.get_type_hints(Run)
    by_type: dict[Any, Callable[[str], Any]] = {
        str: str,
        State: State,
        int | None: lambda text: int(text) if text else None,
        float | None: lambda text: float(text) if text else None,
    }
    return {f.name: by_type[hints[f.name]] for f in fields(Run) if f.name not in BY_HAND}
