"""Format of metrics in tables: from the package's YAMLs, or from the records of runs.

:func:`primary_metric` is the one place from which tables, figures and sentences know by which
metric the runs of a task are compared, how it is called and shown, and which values are better.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from mla_lightning.config.search import conf_dir, options
from mla_lightning.run_folder.tasks import CLASSIFICATION, PRIMARY, primary_of, selection_of

if TYPE_CHECKING:
    from mla_lightning.report.read.run import Run

T = TypeVar("T")
#: Name of the metric of classification.
ACCURACY = PRIMARY[CLASSIFICATION].metric
#: Direction of a metric, at the end of titles and labels of axes.
LOWER_IS_BETTER = "lower is better"
#: Digits of a value in the target's unit, whose size says nothing about decimals.
SIGNIFICANT_DIGITS = 3
#: Largest number of decimals of such a value.
MAX_DECIMALS = 6


@dataclass(frozen=True)
class MetricDisplay:
    """How tables show a metric; see :class:`mla_lightning.metrics.base.Metric`.

    Attributes:
        name: Its name in results.
        label: Its name in tables.
        percent: Whether it is shown in percent.
        digits: Number of decimals.
        lower_is_better: Whether the smallest value is the best.
        in_table1: Whether Table 1 has a row for it.
        tasks: The tasks whose runs have it.
    """

    name: str
    label: str
    percent: bool = False
    digits: int = 1
    lower_is_better: bool = False
    in_table1: bool = False
    tasks: tuple[str, ...] = field(default=(CLASSIFICATION,), compare=False)

    @property
    def column(self) -> str:
        """The metric's column in ``results.csv``, such as ``macro_f1_percent`` or ``ece``."""
        return f"{self.name}_percent" if self.percent else self.name

    @property
    def probe_column(self) -> str:
        """The column of a probe's value of the metric, ``probe_percent`` for an accuracy."""
        return "probe_percent" if self.name == ACCURACY else f"probe_{self.column}"

    def column_value(self, raw: float) -> float:
        """Convert a value of a result to the unit and precision of ``results.csv``.

        Example:
            >>> metric_display("ece", {}).column_value(0.12345678)
            0.123457
            >>> metric_display("macro_f1", {"percent": True}).column_value(0.5)
            50.0
        """
        if self.percent:
            return round(100 * float(raw), 4)
        if self.in_target_unit:  # a target may be in micrometres or in millions
            return float(f"{float(raw):.9g}")
        return round(float(raw), 6)

    @property
    def in_target_unit(self) -> bool:
        """Whether values are in the target's own unit."""
        return any(p.metric == self.name and p.in_target_unit for p in PRIMARY.values())

    @property
    def scale(self) -> float:
        """The factor from a value of a result to the unit of tables and figures."""
        return 100.0 if self.percent else 1.0

    @property
    def sign(self) -> int:
        """1 if larger values are better, -1 if smaller ones are."""
        return -1 if self.lower_is_better else 1

    @property
    def unit(self) -> str:
        """The end of a title of values: unit and direction, as far as readers need them.

        Example:
            >>> package_metrics()["accuracy"].unit, package_metrics()["mae"].unit
            (' in percent', ', lower is better')
        """
        if self.percent:
            return " in percent"
        return f", {LOWER_IS_BETTER}" if self.lower_is_better else ""

    @property
    def difference_unit(self) -> str:
        """The end of a title of differences: unit and direction.

        Example:
            >>> package_metrics()["accuracy"].difference_unit
            ', percentage points'
            >>> package_metrics()["mae"].difference_unit
            ', negative is better'
        """
        if self.percent:
            return ", percentage points"
        return ", negative is better" if self.lower_is_better else ""

    @property
    def gap_unit(self) -> str:
        """The end of a title of gaps, which are negative where a value is worse."""
        return ", percentage points" if self.percent else ""

    @property
    def axis_unit(self) -> str:
        """The end of the label of an axis.

        Example:
            >>> package_metrics()["accuracy"].axis_unit, package_metrics()["mae"].axis_unit
            (' (%)', ' (lower is better)')
        """
        if self.percent:
            return " (%)"
        return f" ({LOWER_IS_BETTER})" if self.lower_is_better else ""

    def better_first(self, first: T, second: T) -> tuple[T, T]:
        """Return two values in the order whose difference is positive where the first is better.

        Example:
            >>> package_metrics()["mae"].better_first("MAE of A", "MAE of B")
            ('MAE of B', 'MAE of A')
        """
        return (second, first) if self.lower_is_better else (first, second)

    def text(self, value: float) -> str:
        """Format a value of ``results.csv``, without its unit."""
        return f"{value:.{self.digits}f}"

    def at_scale(self, value: float) -> MetricDisplay:
        """Return the same metric with decimals that suit the size of its values.

        Args:
            value: The best value that is shown.

        Returns:
            The metric with :data:`SIGNIFICANT_DIGITS` digits if it is in the target's unit; itself
            otherwise.

        Example:
            >>> mae = primary_metric("regression")
            >>> [mae.at_scale(value).text(value) for value in (0.00417, 0.7132, 43.482, 24531.7)]
            ['0.00417', '0.713', '43.5', '24532']
        """
        if not self.in_target_unit or not 0 < abs(value) < math.inf:
            return self
        decimals = SIGNIFICANT_DIGITS - 1 - math.floor(math.log10(abs(value)))
        return replace(self, digits=min(max(decimals, 0), MAX_DECIMALS))


def primary_metric(task: str = CLASSIFICATION) -> MetricDisplay:
    """Return the metric by which the runs of a task are compared, and how it is shown.

    Args:
        task: The task; an empty text means classification.

    Example:
        >>> [primary_metric(task).column for task in ("", "regression", "multilabel")]
        ['accuracy_percent', 'mae', 'micro_f1_percent']
    """
    return package_metrics()[primary_of(task).metric]


def selection_metric(task: str, select_by: str | None) -> MetricDisplay:
    """Return the metric by which the epochs of runs were selected, and how it is shown.

    Args:
        task: The task; an empty text means classification.
        select_by: The setting; empty or None for the task's primary metric.

    Example:
        >>> selection_metric("", "balanced_accuracy").column
        'macro_recall_percent'
        >>> selection_metric("regression", None).column
        'mae'
    """
    return package_metrics()[selection_of(task or CLASSIFICATION, select_by or None).metric]


@cache
def package_metrics() -> dict[str, MetricDisplay]:
    """Return the package's metrics by name; those for which lower is better come last."""
    import yaml

    metrics = [
        metric_display(name, yaml.safe_load(path.read_text(encoding="utf-8")))
        for name, path in options((conf_dir(),), "metric").items()
    ]
    return {m.name: m for m in sorted(metrics, key=lambda metric: metric.lower_is_better)}


def metric_display(name: str, settings: Mapping[str, Any]) -> MetricDisplay:
    """Return how a metric is shown.

    Args:
        name: Its name.
        settings: The content of its YAML, or what a run recorded of it; other keys are ignored,
            missing ones have their defaults.

    Example:
        >>> metric_display("top5", {"label": "top-5 accuracy", "percent": True}).column
        'top5_percent'
    """
    known = {field.name for field in fields(MetricDisplay)} - {"name"}
    values = {key: value for key, value in settings.items() if key in known}
    if "tasks" in values:
        values["tasks"] = tuple(values["tasks"])
    return MetricDisplay(name, **{"label": name, **values})


def metrics_of(runs: Iterable[Run]) -> dict[str, MetricDisplay]:
    """Return the package's metrics, followed by those that the runs recorded, by name."""
    texts = dict.fromkeys(run.metrics for run in runs if run.metrics)
    custom = {
        name: metric_display(name, settings)
        for text in texts
        for name, settings in json.loads(text).items()
    }
    return package_metrics() | dict(sorted(custom.items()))


def custom_metrics(metrics: Mapping[str, Any]) -> str:
    """Return as JSON how metrics are shown that the package does not define in the same way.

    Args:
        metrics: Name -> how it is shown, as the run's result holds it.

    Returns:
        A JSON object, or an empty string if there is no such metric.
    """
    custom = {
        name: settings
        for name, settings in metrics.items()
        if metric_display(name, settings) != package_metrics().get(name)
    }
    return json.dumps(custom, sort_keys=True) if custom else ""
