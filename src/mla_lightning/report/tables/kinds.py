"""The kinds of reports that ``mla report`` makes; see ``conf/report/``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mla_lightning.errors import ConfigError, near
from mla_lightning.report.document.table import Report, ReportBuilder
from mla_lightning.report.read.components import Component, components
from mla_lightning.report.read.run import Run

#: The kind that shows all others on one page.
PAGE = "page"


def kinds(config_dir: Path | None = None) -> dict[str, Component]:
    """Return the kinds of reports, without importing their functions.

    Args:
        config_dir: A user's own folder of config groups, None for none.

    Returns:
        Name -> entry, whose function makes a report from runs.

    Example:
        >>> sorted(kinds())
        ['benchmark', 'runs', 'table1', 'table2', 'table3', 'tuning']
    """
    return components("report", config_dir)


def maker(kind: str, config_dir: Path | None = None) -> ReportBuilder:
    """Return the function that makes a kind of report.

    Args:
        kind: Its name.
        config_dir: A user's own folder of config groups, None for none.

    Raises:
        ConfigError: If there is no such kind.
    """
    known = kinds(config_dir)
    if kind not in known:
        names = [*known, PAGE]
        raise ConfigError(f"Unknown report {kind!r}.{near(kind, names)} Known: {', '.join(names)}.")
    known[kind].function()  # an error before anything is read
    return builder(known[kind])


def builder(entry: Component) -> ReportBuilder:
    """Return the function of a kind, whose errors name its YAML.

    Args:
        entry: The entry of the kind; its function is imported when the report is made.
    """

    def build(runs: Sequence[Run]) -> Report:
        report: Report = entry.call(runs, Report)
        return report

    return build


def varied_keys(config_dir: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Return the settings that the experiments of a kind vary beside the seed.

    Args:
        config_dir: A user's own folder of config groups, None for none.

    Returns:
        Name -> keys, of the kinds that have experiments.

    Example:
        >>> varied_keys()["tuning"]
        ('optimizer.lr',)
    """
    return {
        name: tuple(entry.options["varies"])
        for name, entry in kinds(config_dir).items()
        if "varies" in entry.options
    }
