"""The tasks that a data set can have, and the metrics by which their runs are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mla_lightning.errors import ConfigError

CLASSIFICATION, REGRESSION, MULTILABEL = "classification", "regression", "multilabel"


@dataclass(frozen=True, kw_only=True)
class Primary:
    """The metric by which runs of a task are compared, and epochs selected by default.

    Attributes:
        metric: Its name in ``result.json`` and in ``conf/metric/``.
        column: Its column in ``metrics.csv``, after ``val/``.
        lower_is_better: Whether the smallest value is the best.
        in_target_unit: Whether values are in the target's own unit; if not, they are fractions.
    """

    metric: str
    column: str
    lower_is_better: bool = False
    in_target_unit: bool = False

    @property
    def sign(self) -> int:
        """1 if larger values are better, -1 if smaller ones are.

        Example:
            >>> PRIMARY["classification"].sign, PRIMARY["regression"].sign
            (1, -1)
        """
        return -1 if self.lower_is_better else 1

    def is_better(self, value: float, best: float) -> bool:
        """Return whether a value is better than the best so far; equal ones are not.

        Any number is better than NaN.

        Example:
            >>> PRIMARY["regression"].is_better(0.5, 0.75), PRIMARY["regression"].is_better(1, 1)
            (True, False)
        """
        return self.sign * value > self.sign * best or (math.isnan(best) and not math.isnan(value))

    def text(self, value: float) -> str:
        """Return a value as commands print it: three decimals, or four digits in a target's unit.

        Example:
            >>> PRIMARY["classification"].text(0.5), PRIMARY["regression"].text(43217.482)
            ('0.500', '43217')
        """
        if not self.in_target_unit:
            return f"{value:.3f}"
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


#: Task -> the metric by which its runs are compared.
PRIMARY: Mapping[str, Primary] = {
    CLASSIFICATION: Primary(metric="accuracy", column="acc"),
    REGRESSION: Primary(metric="mae", column="mae", lower_is_better=True, in_target_unit=True),
    MULTILABEL: Primary(metric="micro_f1", column="f1_micro"),
}


def primary_of(task: str) -> Primary:
    """Return the metric by which the runs of a task are compared.

    Args:
        task: The task; an empty text means classification.

    Example:
        >>> primary_of("regression").metric, primary_of("").metric
        ('mae', 'accuracy')
    """
    return PRIMARY[task or CLASSIFICATION]


#: All tasks.
TASKS = tuple(PRIMARY)
#: Task -> value of ``select_by`` -> the metric by which epochs are selected.
SELECT_BY: Mapping[str, Mapping[str, Primary]] = {
    CLASSIFICATION: {
        "accuracy": PRIMARY[CLASSIFICATION],
        "macro_f1": Primary(metric="macro_f1", column="f1_macro"),
        "balanced_accuracy": Primary(metric="macro_recall", column="recall_macro"),
    },
    REGRESSION: {
        "mae": PRIMARY[REGRESSION],
        "correlation": Primary(metric="correlation", column="correlation"),
    },
    MULTILABEL: {
        "micro_f1": PRIMARY[MULTILABEL],
        "macro_f1": Primary(metric="macro_f1", column="f1_macro"),
        "mean_ap": Primary(metric="mean_ap", column="mean_ap"),
    },
}


def primary_name(task: str) -> str:
    """Return the value of ``select_by`` that names a task's primary metric.

    Example:
        >>> [primary_name(task) for task in TASKS]
        ['accuracy', 'mae', 'micro_f1']
    """
    return next(iter(SELECT_BY[task]))


def selection_of(task: str, select_by: str | None = None) -> Primary:
    """Return the metric by which epochs are selected.

    Args:
        task: The task of the data.
        select_by: The setting; None for the task's primary metric.

    Raises:
        ConfigError: If the task has no such metric, with those that it has.

    Example:
        >>> selection_of("regression").column
        'mae'
        >>> selection_of("regression", "accuracy")
        Traceback (most recent call last):
        mla_lightning.errors.ConfigError: select_by=accuracy is no metric of regression: write mae
        or correlation, or leave it out for mae.
    """
    options = SELECT_BY[task]
    if select_by is not None and select_by not in options:
        *first, last = options
        raise ConfigError(
            f"select_by={select_by} is no metric of {task}: write {', '.join(first)} or {last}, or "
            f"leave it out for {primary_name(task)}."
        )
    return options[select_by or primary_name(task)]


@dataclass(frozen=True, kw_only=True)
class MethodRules:
    """What a method is defined for, as its class attributes say.

    Attributes:
        name: Name of the class.
        min_modalities: Smallest number of modalities.
        follows_task: Whether its losses are the task's, so that it is defined for any task.
        not_for: Task, or ``class_weights`` -> why it is not defined for it, and what to use.
        takes_incomplete: Whether it is defined for samples with missing modalities.
        needs_held_out: Whether it needs training samples that are not trained on.

    Example:
        >>> from mla_lightning.methods import QMF
        >>> rules = MethodRules.of(QMF)
        >>> rules.min_modalities, rules.takes_incomplete, list(rules.not_for)
        (2, True, ['regression'])
    """

    name: str
    min_modalities: int
    follows_task: bool
    not_for: Mapping[str, str]
    takes_incomplete: bool
    needs_held_out: bool

    @classmethod
    def of(cls, method: Any) -> MethodRules:
        """Return the rules of a method's class."""
        values = {field: getattr(method, field) for field in cls.attributes()}
        return cls(name=method.__name__, **values)

    @classmethod
    def attributes(cls) -> tuple[str, ...]:
        """Return the names of the class attributes of methods that hold the rules."""
        return tuple(field.name for field in fields(cls) if field.name != "name")

    def check_modalities(self, modalities: Sequence[str]) -> None:
        """Check that there are enough modalities.

        Args:
            modalities: The modalities in use.

        Raises:
            ConfigError: If there are too few.
        """
        if len(modalities) < self.min_modalities:
            raise ConfigError(
                f"{self.name} needs at least {self.min_modalities} modalities, got "
                f"{list(modalities)}. Use method=unimodal to train one modality alone."
            )

    def check_task(self, task: str, *, has_class_weights: bool = False) -> None:
        """Check that the method is defined for the task of the data.

        Args:
            task: The task of the data.
            has_class_weights: Whether classes are weighted in the loss.

        Raises:
            ConfigError: If it is not, with the reason and what to use.
        """
        if reason := self.not_for.get(task):
            raise ConfigError(f"{self.name} is not for {task}: {reason}.")
        if task != CLASSIFICATION and not self.follows_task:
            raise ConfigError(
                f"{self.name} is not for {task}: it does not say that it minimises its loss."
                " If its losses are self.parts.loss(logits, batch), set its class attribute "
                "follows_task = True."
            )
        if not has_class_weights:
            return
        reason = self.not_for.get("class_weights")
        if reason or not self.follows_task:
            reason = reason or "its losses are not the task's"
            raise ConfigError(f"loss.class_weights has no effect on {self.name}: {reason}.")


def held_out_message(name: str) -> str:
    """Return the error message for a method that needs held-out samples, and has none.

    Args:
        name: Name of the method's class.

    Example:
        >>> held_out_message("Relearning")
        'Relearning needs training samples that are not trained on. Set data.held_out=0.1; ...'
    """
    return (
        f"{name} needs training samples that are not trained on. Set data.held_out=0.1; with a "
        "Trainer of your own, give held_out_batches=lambda: loader."
    )
