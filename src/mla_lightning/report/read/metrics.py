"""Format of metrics in tables: from the package's YAMLs, or from the records of runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any

from mla_lightning.config.search import conf_dir, options

if TYPE_CHECKING:
    from mla_lightning.report.read.run import Run


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
    """

    name: str
    label: str
    percent: bool = False
    digits: int = 1
    lower_is_better: bool = False
    in_table1: bool = False

    @property
    def column(self) -> str:
        """The metric's column in ``results.csv``, such as ``macro_f1_percent`` or ``ece``."""
        return f"{self.name}_percent" if self.percent else self.name

    def column_value(self, raw: float) -> float:
        """Convert a value of a result to the unit and precision of ``results.csv``.

        Example:
            >>> metric_display("ece", {}).column_value(0.12345678)
            0.123457
            >>> metric_display("macro_f1", {"percent": True}).column_value(0.5)
            50.0
        """
        return round(100 * float(raw), 4) if self.percent else round(float(raw), 6)


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
