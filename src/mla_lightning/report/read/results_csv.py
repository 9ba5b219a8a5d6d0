"""``results.csv``: all runs in one long table, which alone makes every report again."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from mla_lightning import run_folder as files
from mla_lightning.errors import RunError
from mla_lightning.report.read.run import Run, Score
from mla_lightning.run_folder import State

RESULTS = "results.csv"
COLUMNS = (
    "dataset",
    "method",
    "ablation",
    "overrides",
    "seed",
    "modality",
    "split",
    "accuracy_percent",
    "macro_f1_percent",
    "ece",
    "probe_percent",
    "macro_recall_percent",
    "weighted_f1_percent",
    "state",
    "reason",
    "best_epoch",
    "epochs",
    "lr",
    "train_time_s",
    "epoch_time_s",
    "step_time_s",
    "peak_memory_mb",
    "num_parameters",
    "protocol",
    "data_split",
    "num_train",
    "num_val",
    "num_test",
    "unimodal_rule",
    "name",
    "identity",
    "code",
    "data",
    "git_commit",
    "versions",
    "device",
    "threads",
    "missing_percent",
    "masks",
    "patterns",
    "forgetting",
    "forgetting_pairs",
    "forgetting_own",
    "gradient_cosine",
    "projector_trace",
    "ece_scaled",
    "weight_gain",
    "retry",
    "run",
)
OF_SCORE = (
    *("accuracy_percent", "macro_f1_percent", "ece", "probe_percent"),
    *("macro_recall_percent", "weighted_f1_percent"),
)
#: Columns that files of earlier versions lack.
LATER = (
    *("probe_percent", "macro_recall_percent", "weighted_f1_percent"),
    *("missing_percent", "masks", "patterns", "step_time_s", "forgetting_own"),
    "forgetting_pairs",
    *("forgetting", "gradient_cosine", "projector_trace", "ece_scaled", "weight_gain"),
)
INTEGERS = (
    "seed",
    "best_epoch",
    "epochs",
    "num_parameters",
    "num_train",
    "num_val",
    "num_test",
    "threads",
)
NUMBERS = (
    *("lr", "train_time_s", "epoch_time_s", "step_time_s", "peak_memory_mb", "missing_percent"),
    *("forgetting", "forgetting_own", "gradient_cosine", "projector_trace"),
    *("ece_scaled", "weight_gain"),
)


def write_csv(path: Path, runs: Iterable[Run]) -> None:
    """Write runs as a long table: one row per run, split and modality.

    Args:
        path: The file; replaced atomically.
        runs: The runs. One without numbers has one row that tells its state.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for run in runs:
        common = _common(run)
        measured = [(s, m, score) for s, by in run.scores.items() for m, score in by.items()]
        for split, modality, score in measured:
            own = {name: getattr(score, name) for name in OF_SCORE}
            writer.writerow({**common, "split": split, "modality": modality, **own})
        if not measured:
            writer.writerow(common)
    files.write_text(path, text.getvalue())


def read_csv(path: Path) -> list[Run]:
    """Read the runs of a long table.

    Args:
        path: A file that :func:`write_csv` wrote.

    Returns:
        The runs, in the order of their first rows.

    Raises:
        RunError: If columns are missing or a row cannot be read, naming its line.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        lacking = [name for name in COLUMNS if name not in (*(reader.fieldnames or ()), *LATER)]
        if lacking:
            raise RunError(f"{path} is no table of results: it lacks {', '.join(lacking)}")
        found: dict[tuple[str, str], Run] = {}
        try:
            for row in reader:
                _add(found, row, path)
        except (TypeError, ValueError, csv.Error) as error:
            raise RunError(f"{path}, line {reader.line_num}: {error}") from error
    return list(found.values())


def _common(run: Run) -> dict[str, Any]:
    own = {item.name for item in fields(Run)} - {"overrides", "scores", "path", "where"}
    values = {name: getattr(run, name) for name in COLUMNS if name in own}
    values["overrides"] = shlex.join(f"{key}={value}" for key, value in run.overrides)
    return values


def _add(found: dict[tuple[str, str], Run], row: Mapping[str, str], path: Path) -> None:
    if None in row or None in row.values():
        raise ValueError("wrong number of cells")
    key = (row["run"], row["identity"])
    if key not in found:
        own = {item.name for item in fields(Run)} & row.keys() - {"overrides"}
        texts: dict[str, Any] = {name: row[name] for name in own}
        for name in INTEGERS:
            texts[name] = int(row[name]) if row[name] else None
        for name in NUMBERS:
            texts[name] = float(row[name]) if row.get(name) else None
        pairs = [item.partition("=") for item in shlex.split(row["overrides"])]
        texts["state"] = State(texts["state"])
        found[key] = Run(
            where=f"{path}: {row['run']}",
            overrides=tuple((name, value) for name, _, value in pairs),
            **texts,
        )
    if row["split"]:
        scores = found[key].scores.setdefault(row["split"], {})
        if row["modality"] in scores:
            raise ValueError(f"{row['run']} has {row['modality']}, {row['split']} twice")
        scores[row["modality"]] = Score(
            **{name: float(row[name]) for name in OF_SCORE if row.get(name)}
        )
