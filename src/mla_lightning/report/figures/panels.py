"""Panels: the figures that the page shows for every block of runs; see ``conf/panel/``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.errors import ConfigError, near
from mla_lightning.report.read.components import Component, components
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.run_folder.tasks import CLASSIFICATION, TASKS

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
        tasks: The tasks that it is defined for.
        by_task: Task -> other values of title, reading, curves or tables for that task.
    """

    slug: str
    title: str
    reading: str
    component: Component
    order: float = 1000.0
    needs_diagnostics: bool = True
    curves: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    tasks: tuple[str, ...] = TASKS
    by_task: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def for_task(self, task: str) -> Panel | None:
        """Return the panel with the words of a task; None if it is not defined for it.

        Args:
            task: The task; an empty text means classification.

        Example:
            >>> by_name = {panel.slug: panel for panel in panels()}
            >>> by_name["entropy"].for_task("regression") is None
            True
            >>> by_name["laziness"].for_task("regression").curves
            ('^val/mae/.*', '^probe/mae/.*')
        """
        task = task or CLASSIFICATION
        return replace(self, **self.by_task.get(task, {})) if task in self.tasks else None

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
        >>> [panel.slug for panel in panels() if panel.for_task("classification")][:3]
        ['laziness', 'forgetting', 'forgetting-epochs']
    """
    known = [item.name for item in fields(Panel) if item.name not in ("slug", "component")]
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
        options["tasks"] = tuple(options.get("tasks", TASKS))
        options["by_task"] = _words_by_task(options.get("by_task", {}), component.path)
        result.append(Panel(slug=name.replace("_", "-"), component=component, **options))
    return sorted(result, key=lambda panel: panel.order)


def _words_by_task(entries: Any, path: Path) -> dict[str, dict[str, Any]]:
    """Check and convert ``by_task`` of a panel's YAML."""
    words = ("title", "reading", "curves", "tables")
    is_nested = isinstance(entries, Mapping)
    if not is_nested or not all(isinstance(entry, Mapping) for entry in entries.values()):
        raise ConfigError(f"{path}: by_task must be a mapping of tasks to {', '.join(words)}")
    for key, known in [(task, TASKS) for task in entries] + [
        (key, words) for entry in entries.values() for key in entry
    ]:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {key!r} in by_task.{near(str(key), known)}")
    return {
        task: {k: tuple(v) if k in ("curves", "tables") else v for k, v in entry.items()}
        for task, entry in entries.items()
    }
