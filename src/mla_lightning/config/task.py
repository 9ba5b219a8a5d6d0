"""Checks of what a config says of the task against that of the data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mla_lightning.config.search import options
from mla_lightning.config.targets import TARGET, locate
from mla_lightning.errors import ConfigError
from mla_lightning.run_folder.tasks import (
    CLASSIFICATION,
    REGRESSION,
    Primary,
    primary_name,
    selection_of,
)

#: The schedule of torch that follows a metric.
PLATEAU = "ReduceLROnPlateau"


def find_task_problems(tree: Mapping[str, Any], task: str, data_name: str) -> list[str]:
    """Find settings that do not fit the task of the data.

    Args:
        tree: The resolved config as plain containers.
        task: The task of the data.
        data_name: Their name.

    Returns:
        One message per setting: another task, a method or a metric that is not for it, a schedule
        that expects the metric to change in the wrong direction, and class weights where there are
        no classes.

    Example:
        >>> from mla_lightning.config import plan
        >>> words = ["data=synthetic", "select_by=macro_f1", "loss.class_weights=balanced"]
        >>> for problem in find_task_problems(plan(words)[0].config, "regression", "mine"):
        ...     print(problem)
        select_by=macro_f1 is no metric of regression: write mae or correlation, or leave it out ...
        loss.class_weights has no effect on mine: regression has no classes. Leave it out.
    """
    problems = []
    if node := tree.get("task"):
        chosen = getattr(locate(node[TARGET]), "name", "")
        if chosen != task:
            problems.append(
                f"task={chosen or node[TARGET]} does not fit {data_name}, whose labels are those "
                f"of {task}. Leave it out, or import the data with task={chosen}."
            )
    try:
        selection = selection_of(task, tree["select_by"])
    except ConfigError as error:
        problems.append(str(error))
    else:
        problems += _plateau_problems(tree.get("scheduler"), selection)
    has_class_weights = bool(tree["loss"]["class_weights"])
    if has_class_weights and task == REGRESSION:
        problems.append(
            f"loss.class_weights has no effect on {data_name}: regression has no classes. "
            "Leave it out."
        )
        has_class_weights = False
    method = locate(tree["method"][TARGET])
    if hasattr(method, "check_task"):
        try:
            method.check_task(task, has_class_weights=has_class_weights)
        except ConfigError as error:
            problems.append(str(error))
    return problems


def _plateau_problems(scheduler: Mapping[str, Any] | None, selection: Primary) -> list[str]:
    """Report a schedule that waits for the metric to change in the wrong direction."""
    right, change = ("min", "fall") if selection.lower_is_better else ("max", "rise")
    is_plateau = bool(scheduler) and str(scheduler[TARGET]).endswith(PLATEAU)  # type: ignore[index]
    if not is_plateau or scheduler.get("mode", "min") == right:  # type: ignore[union-attr]
        return []
    metric = f"validation {selection.metric.replace('_', ' ')}"
    return [
        f"scheduler.mode must be {right}: the schedule follows the {metric}, which should {change}"
    ]


def settings_of_task(
    tree: Mapping[str, Any], task: str, folders: tuple[Path, ...]
) -> dict[str, Any]:
    """Return the settings of a config that its data's task completes.

    Args:
        tree: The resolved config as plain containers, which fits the task.
        task: The task of the data.
        folders: Where configs are looked up.

    Returns:
        ``task``, the node of the task (empty for plain classification, as in configs without
        one); ``select_by``; and ``metrics``, those of the task.

    Example:
        >>> from mla_lightning.config import plan
        >>> from mla_lightning.config.search import search_path
        >>> tree = plan(["data=synthetic"])[0].config
        >>> settings_of_task(tree, "multilabel", search_path(None))["select_by"]
        'micro_f1'
    """
    import yaml

    usual = yaml.safe_load(options(folders, "task")[task].read_text(encoding="utf-8"))
    node = tree.get("task") or usual
    is_plain = task == CLASSIFICATION and node == usual
    metrics = {
        name: metric
        for name, metric in tree["metrics"].items()
        if task in (metric.get("tasks") or [CLASSIFICATION])
    }
    return {
        "task": {} if is_plain else node,
        "select_by": tree["select_by"] or primary_name(task),
        "metrics": metrics,
    }
