"""Files of a search: the chosen values as a recipe, every trial as CSV, and a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mla_lightning.errors import ConfigError
from mla_lightning.report.figures.search import SearchPanel, draw_search
from mla_lightning.report.read.metrics import MetricDisplay
from mla_lightning.run_folder import write_text
from mla_lightning.run_folder.csv_cells import csv_text
from mla_lightning.tune.search import MethodSearch

#: Name of the recipe with the chosen values.
RECIPE = "tuned"
#: First line of comment of that recipe.
ORIGIN = "# Chosen on validation by:"


def chosen_values(searches: Sequence[MethodSearch]) -> dict[str, dict[str, Any]]:
    """Return the values of each method's best trial; methods whose trials all failed are left out.

    Example:
        >>> chosen_values([])
        {}
    """
    return {search.method: search.best.values for search in searches if search.best is not None}


def check_recipe(folder: Path) -> None:
    """Check that no file but the recipe of an earlier search would be replaced.

    Args:
        folder: The folder of configs, for ``--config-dir``.

    Raises:
        ConfigError: If there is a ``recipe/tuned.yaml`` that no search has written.

    Example:
        >>> check_recipe(tmp)
        >>> (tmp / "recipe").mkdir()
        >>> _ = (tmp / "recipe" / "tuned.yaml").write_text("trainer: {max_epochs: 9}")
        >>> check_recipe(tmp)
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: .../recipe/tuned.yaml was not written by a search, ...
    """
    path = folder / "recipe" / f"{RECIPE}.yaml"
    if path.is_file() and ORIGIN not in path.read_text(encoding="utf-8"):
        raise ConfigError(
            f"{path} was not written by a search, and this one would replace it. Rename it"
        )


def write_recipe(folder: Path, searches: Sequence[MethodSearch], recipe: str, command: str) -> Path:
    """Write ``recipe/tuned.yaml``: a recipe with the chosen values of each method.

    Args:
        folder: The folder of configs, for ``--config-dir``.
        searches: The searches.
        recipe: The recipe that the search started from.
        command: The command of the search.

    Returns:
        The file.
    """
    import yaml

    comment = f"{ORIGIN}\n#   {command}\n"
    content = {"defaults": [recipe], RECIPE: chosen_values(searches)}
    path = folder / "recipe" / f"{RECIPE}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(content, sort_keys=False)
    write_text(path, f"# @package _global_\n{comment}{text}")
    return path


def write_trials(
    path: Path, searches: Sequence[MethodSearch], select_by: str, metric: MetricDisplay
) -> None:
    """Write one row per trial: method, number, score, reason of failure, values, run folders.

    If the best trials were trained with further seeds, also their mean score over all seeds.

    Args:
        path: The CSV file.
        searches: The searches.
        select_by: The setting that names the metric of the scores, and their column.
        metric: How that metric is shown.
    """
    keys = list(dict.fromkeys(key for search in searches for key in search.space))
    column = f"val_{select_by}{'_percent' if metric.percent else ''}"
    has_finals = any(trial.final_jobs for search in searches for trial in search.trials)
    final = [f"{column}_all_seeds"] if has_finals else []
    columns = ("method", "trial", column, *final, "chosen", "reason", *keys, "runs")
    rows: list[Sequence[Any]] = []
    for search in searches:
        for number, trial in enumerate(search.trials, start=1):
            score = "" if trial.score is None else metric.column_value(trial.score)
            values = [trial.values.get(key, "") for key in keys]
            runs = " ".join(job.run_dir.name for job in (*trial.jobs, *trial.final_jobs))
            is_best = "yes" if trial is search.best else ""
            of_all = trial.final_score
            finals = ["" if of_all is None else metric.column_value(of_all)] if has_finals else []
            row = (search.method, number, score, *finals, is_best, trial.reason, *values, runs)
            rows.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, csv_text(columns, rows))


def write_figure(
    stem: Path, searches: Sequence[MethodSearch], labels: Sequence[str], metric: MetricDisplay
) -> list[str]:
    """Draw the score of all trials over the first key of the space, a panel per method.

    Args:
        stem: Path without extension.
        searches: The searches.
        labels: Their methods as figures show them.
        metric: How the metric of the scores is shown.

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
                scores=[None if t.score is None else metric.scale * t.score for t in search.trials],
                chosen=None if search.best is None else search.trials.index(search.best),
            )
        )
    return draw_search(panels, stem, metric)
