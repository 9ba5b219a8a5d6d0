"""Panels: the figures that the page shows for every block of runs; see ``conf/panel/``."""

from __future__ import annotations

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
        slug: Short name for file names.
        title: Title.
        reading: Caption, in a sentence or two.
        component: The function that draws it from a
            :class:`~mla_lightning.report.read.diagnostics.BlockDiagnostics`, and returns None where
            nothing was measured.
        order: Position on the page.
        needs_diagnostics: Whether it is omitted for runs without diagnostics.
        curves: Regular expressions of the columns of ``metrics.csv`` that dashboards show for it.
        tables: Tables of a run that dashboards show for it.
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
        """Draw the figure; return None where nothing was measured."""
        from matplotlib.figure import Figure

        drawn: Figure | None = self.component.call(diagnosed, Figure, or_none=True)
        return drawn


def panels(config_dir: Path | None = None) -> list[Panel]:
    """Return the panels in the order of the page, without importing their functions.

    Args:
        config_dir: Additional config folder of the user, or None.

    Raises:
        ConfigError: If a key of a panel is missing or unknown.

    Example:
        >>> [panel.slug for panel in panels()][:3]
        ['laziness', 'forgetting', 'forgetting-own']
    """
    known = [field.name for field in fields(Panel) if field.name not in ("slug", "component")]
    result = []
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
        result.append(Panel(slug=name.replace("_", "-"), component=component, **options))
    return sorted(result, key=lambda panel: panel.order)
