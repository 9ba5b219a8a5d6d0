"""How metrics are shown: from the package's YAMLs, and from what runs recorded of others."""

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
class ShownMetric:
    """A metric as tables show it; see :class:`mla_lightning.metrics.base.Metric`.

    Attributes:
        name: Its name in results.
        label: Its name in tables.
        percent: Whether it is shown in percent.
        digits: Decimals.
        lower_is_better: Whether the smallest value is the best.
        in_table1: Whether Table 1 has a row of it.
    """

    name: str
    label: str
    percent: bool = False
    digits: int = 1
    lower_is_better: bool = False
    in_table1: bool = False

    @property
    def column(self) -> str:
        """Return its column in tables of results: ``macro_f1_percent``, ``ece``."""
        return f"{self.name}_percent" if self.percent else self.name

    def value(self, raw: float) -> float:
        """Return a value as tables hold it, rounded."""
        return round(100 * float(raw), 4) if self.percent else round(float(raw), 6)


@cache
def package_metrics() -> dict[str, ShownMetric]:
    """Return the package's metrics by name, those first of which more is better."""
    import yaml

    found = [
        shown(name, yaml.safe_load(path.read_text(encoding="utf-8")))
        for name, path in options((conf_dir(),), "metric").items()
    ]
    return {one.name: one for one in sorted(found, key=lambda one: one.lower_is_better)}


def shown(name: str, about: Mapping[str, Any]) -> ShownMetric:
    """Return how a metric is shown.

    Args:
        name: Its name.
        about: Its YAML, or what a run recorded of it; what is missing has its default.

    Example:
        >>> shown("top5", {"label": "top-5 accuracy", "percent": True}).column
        'top5_percent'
    """
    known = {field.name for field in fields(ShownMetric)} - {"name"}
    values = {key: value for key, value in about.items() if key in known}
    return ShownMetric(name, **{"label": name, **values})


def metrics_of(runs: Iterable[Run]) -> dict[str, ShownMetric]:
    """Return the metrics that some runs have: the package's, then those that runs recorded."""
    texts = dict.fromkeys(run.metrics for run in runs if run.metrics)
    extra = {name: shown(name, about) for text in texts for name, about in json.loads(text).items()}
    return package_metrics() | dict(sorted(extra.items()))


def recorded(metrics: Mapping[str, Any]) -> str:
    """Return what a run records of metrics that the package does not define, as JSON.

    Args:
        metrics: Name -> how it is shown, as the run's result holds it.
    """
    extra = {
        name: about
        for name, about in metrics.items()
        if shown(name, about) != package_metrics().get(name)
    }
    return json.dumps(extra, sort_keys=True) if extra else ""
