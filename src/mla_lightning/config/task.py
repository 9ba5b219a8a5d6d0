"""Checks of what a config says of the task against that of the data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.config.annotations import Unreadable
from mla_lightning.config.search import options
from mla_lightning.config.signatures import attribute_of, read_class
from mla_lightning.config.targets import TARGET, locate
from mla_lightning.errors import ConfigError
from mla_lightning.run_folder.tasks import (
    CLASSIFICATION,
    REGRESSION,
    MethodRules,
    Primary,
    held_out_message,
    primary_name,
    selection_of,
)

if TYPE_CHECKING:
    from mla_lightning.data.descriptions.base import DataDescription

#: The schedule of torch that follows a metric.
PLATEAU = "ReduceLROnPlateau"


def find_task_problems(tree: Mapping[str, Any], task: str, data_name: str) -> list[str]:
    """Find settings that do not fit the task of the data.

    Args:
        tree: The resolved config as plain containers.
        task: The task of the data.
        data_name: Their name.

    Returns:
        One message per setting: another task, a metric that is not for it, a schedule that
        expects the metric to change in the wrong direction, and class weights where there are no
        classes.

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
        chosen = attribute_of(node[TARGET], "name", "")
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
    if tree["loss"]["class_weights"] and task == REGRESSION:
        problems.append(
            f"loss.class_weights has no effect on {data_name}: regression has no classes. "
            "Leave it out."
        )
    return problems


def rules_of_method(target: str) -> Any:
    """Return what a method is defined for, importing it only if its source text is not enough.

    Args:
        target: The dotted name of the method's class, which is allowed.

    Returns:
        The rules; the class itself if it has checks of its own, or is of a user.

    Raises:
        ConfigError: If the class must be imported and cannot be.

    Example:
        >>> rules_of_method("mla_lightning.methods.ogm_ge.OGMGE").takes_incomplete
        False
    """
    try:
        cls = read_class(target)
        if {cls.owner_of(f"check_{name}") for name in ("modalities", "task")} == {_CHECKED_BY}:
            attributes = {name: cls.attribute(name) for name in MethodRules.attributes()}
            return MethodRules(name=cls.__name__, **attributes)
    except Unreadable:
        pass
    return locate(target)


#: The class that checks methods against their rules, unless they have checks of their own.
_CHECKED_BY = "mla_lightning.encoding.features.EncodingModule"


def find_method_problems(
    method: Any, data: DataDescription, *, is_weighted: bool = False
) -> list[str]:
    """Find why a method cannot be trained on the data.

    Args:
        method: The class of the method, or its rules; see :func:`rules_of_method`.
        data: The data set, or its description.
        is_weighted: Whether classes are weighted in the loss.

    Returns:
        Messages: too few modalities, a task that the method is not defined for, class weights
        without effect on it, samples with missing modalities, for which it has no rule, and no
        samples held out, which it needs.

    Example:
        >>> from mla_lightning.config import plan
        >>> from mla_lightning.config.jobs import data_of_config
        >>> from mla_lightning.methods import MLA, OGMGE
        >>> words = ["data=synthetic", "missing=bernoulli_restore", "missing.rate=0.2"]
        >>> data = data_of_config(plan(words)[0].config)
        >>> find_method_problems(MLA, data)
        []
        >>> find_method_problems(OGMGE, data)
        ['OGMGE has no rule for samples with missing modalities. Use missing.policy=zero_input, ...]
    """
    problems = []
    checks = []
    name = method.name if isinstance(method, MethodRules) else method.__name__
    if hasattr(method, "check_modalities"):
        checks.append(lambda: method.check_modalities(data.modalities))
    if hasattr(method, "check_task"):
        has_class_weights = is_weighted and data.task != REGRESSION
        checks.append(lambda: method.check_task(data.task, has_class_weights=has_class_weights))
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems.append(str(error))
    if not getattr(method, "takes_incomplete", True):
        problems += _incomplete_problems(name, data)
    if getattr(method, "needs_held_out", False) and not data.held_out:
        problems.append(held_out_message(name))
    return problems


def _incomplete_problems(name: str, data: DataDescription) -> list[str]:
    """Report that samples have missing modalities, for a method that has no rule for them."""
    start = f"{name} has no rule for samples with missing modalities"
    if data.incomplete:
        kept = [modality for modality in data.modalities if modality not in data.incomplete]
        leave_out = f", or leave it out: modalities=[{','.join(kept)}]" if len(kept) > 1 else ""
        lacking = "not every sample of {} has the modality {}".format(
            data.name, " or ".join(map(repr, data.incomplete))
        )
        return [f"{start}, and {lacking}. Use another method{leave_out}."]
    if data.missing is not None and data.missing.policy == "drop":
        return [
            f"{start}. Use missing.policy=zero_input, which replaces them by zeros, or another "
            "method."
        ]
    return []


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
