"""The kinds of reports that ``mla report`` makes; see ``conf/report/``."""

from __future__ import annotations

from pathlib import Path

from mla_lightning.config.listing import summary_of
from mla_lightning.errors import ConfigError, near
from mla_lightning.report.document.table import ReportBuilder
from mla_lightning.report.read.components import Component, components

#: The kind that is all others on one page.
PAGE = "page"
PAGE_SUMMARY = "All of it as one HTML page: what was run, tables, curves, diagnostics, failures."


def kinds(config_dir: Path | None = None) -> dict[str, Component]:
    """Return the kinds of reports, without importing what makes them.

    Args:
        config_dir: A user's own folder of groups, None for none.

    Returns:
        Name -> what names the function: runs -> report.
    """
    return components("report", config_dir)


def maker(kind: str, config_dir: Path | None = None) -> ReportBuilder:
    """Return what makes a kind of report.

    Args:
        kind: Its name.
        config_dir: A user's own folder of groups, None for none.

    Raises:
        ConfigError: If there is no such kind.
    """
    known = kinds(config_dir)
    if kind not in known:
        names = [*known, PAGE]
        raise ConfigError(f"Unknown report {kind!r}.{near(kind, names)} Known: {', '.join(names)}.")
    return known[kind].function()


def summaries(config_dir: Path | None = None) -> dict[str, str]:
    """Return what each kind shows, in a sentence."""
    found = {name: summary_of(one.path) for name, one in kinds(config_dir).items()}
    return {**found, PAGE: PAGE_SUMMARY}


def varied_keys(config_dir: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Return what a kind's experiments vary beside the seed, of the kinds that have experiments."""
    return {
        name: tuple(one.options["varies"])
        for name, one in kinds(config_dir).items()
        if "varies" in one.options
    }
