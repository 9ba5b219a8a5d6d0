"""What a search leaves: the chosen values as a recipe, every trial as CSV, and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mla_lightning.report.figures.search import SearchPanel, draw_search
from mla_lightning.run_folder import write_text
from mla_lightning.run_folder.csv_cells import csv_text
from mla_lightning.tune.search import MethodSearch

#: Name of the recipe with the chosen values.
RECIPE = "tuned"


def chosen_values(searches: Sequence[MethodSearch]) -> dict[str, dict[str, Any]]:
    """Return the values of each method's best trial; methods whose trials all failed are left out.

    Example:
        >>> chosen_values([])
        {}
    """
    return {search.method: search.best.values for search in searches if search.best is not None}


def write_recipe(
    folder: Path, searches: Sequence[MethodSearch], recipe: str, origin: Sequence[str]
) -> Path:
    """Write ``recipe/tuned.yaml``: a recipe with the chosen values of each method.

    Args:
        folder: The folder of configs, for ``--config-dir``.
        searches: The searches.
        recipe: The recipe that the search started from.
        origin: Lines of comment on where the values come from.

    Returns:
        The file.
    """
    import yaml

    comment = "".join(f"# {line}\n" for line in origin)
    content = {"defaults": [recipe], RECIPE: chosen_values(searches)}
    path = folder / "recipe" / f"{RECIPE}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(content, sort_keys=False)
    write_text(path, f"# @package _global_\n{comment}{text}")
    return path


def write_trials(path: Path, searches: Sequence[MethodSearch]) -> None:
    """Write one row per trial: method, number, accuracy, reason of failure, values, run folders."""
    keys = list(dict.fromkeys(key for search in searches for key in search.space))
    columns = ("method", "trial", "val_accuracy_percent", "chosen", "reason", *keys, "runs")
    rows: list[Sequence[Any]] = []
    for search in searches:
        for number, trial in enumerate(search.trials, start=1):
            percent = "" if trial.accuracy is None else round(100 * trial.accuracy, 4)
            values = [trial.values.get(key, "") for key in keys]
            runs = " ".join(job.run_dir.name for job in trial.jobs)
            is_best = "yes" if trial is search.best else ""
            rows.append((search.method, number, percent, is_best, trial.reason, *values, runs))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, csv_text(columns, rows))


def write_figure(stem: Path, searches: Sequence[MethodSearch], labels: Sequence[str]) -> list[str]:
    """Draw the accuracy of all trials over the first key of the space, a panel per method.

    Args:
        stem: Path without extension.
        searches: The searches.
        labels: Their methods as figures show them.

    Returns:
        Names of the files.
    """
    panels = []
    for search, label in zip(searches, labels, strict=True):
        intervals = [key for key, values in search.space.items() if not values.values]
        key = (intervals or list(search.space))[0]
        panels.append(
            SearchPanel(
                title=label,
                key=key,
                is_log=search.space[key].log,
                values=[t.values[key] if intervals else str(t.values[key]) for t in search.trials],
                percents=[None if t.accuracy is None else 100 * t.accuracy for t in search.trials],
                chosen=None if search.best is None else search.trials.index(search.best),
            )
        )
    return draw_search(panels, stem)
