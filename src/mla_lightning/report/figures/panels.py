"""The figures that the page draws of every block of runs; see ``conf/panel/``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from mla_lightning.errors import ConfigError, near
from mla_lightning.report.read.components import Component, components
from mla_lightning.report.read.diagnostics import BlockDiagnostics

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A figure of the page.

    Attributes:
        slug: Short name, for files.
        title: Heading.
        reading: How to read it, in a sentence or two.
        component: Names the function that draws it from a
            :class:`~mla_lightning.report.read.diagnostics.BlockDiagnostics`, or returns None where
            nothing was measured.
        order: Its place on the page.
        needs_diagnostics: Whether it is left out for runs without diagnostics.
        curves: Regular expressions of the columns of ``metrics.csv`` that it shows, for dashboards.
        tables: Tables that a run sends to a tracker, for dashboards.
    """

    slug: str
    title: str
    reading: str
    component: Component
    order: float = 1000.0
    needs_diagnostics: bool = True
    curves: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()

    def draw(self, diagnosed: BlockDiagnostics) -> Figure | None:
        """Draw the figure, or return None where nothing was measured."""
        function: Callable[[BlockDiagnostics], Figure | None] = self.component.function()
        return function(diagnosed)


def panels(config_dir: Path | None = None) -> list[Panel]:
    """Return the panels in the order of the page, without importing what draws them.

    Args:
        config_dir: A user's own folder of groups, None for none.

    Raises:
        ConfigError: If a panel lacks a key or has an unknown one.
    """
    known = [field.name for field in fields(Panel) if field.name not in ("slug", "component")]
    found = []
    for name, component in components("panel", config_dir).items():
        options = dict(component.options)
        for key in options:
            if key not in known:
                raise ConfigError(f"{component.path}: unknown key {key!r}.{near(key, known)}")
        for key in ("title", "reading"):
            if key not in options:
                raise ConfigError(f"{component.path} has no {key}")
        for key in ("curves", "tables"):
            options[key] = tuple(options.get(key, ()))
        found.append(Panel(slug=name.replace("_", "-"), component=component, **options))
    return sorted(found, key=lambda panel: panel.order)
