"""Cache of drawn figures: a page is made again without redrawing unchanged figures."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mla_lightning.errors import MLAError
from mla_lightning.report.document.table import Cell, Row, Section, Table
from mla_lightning.report.figures.numbers import add_tooltips, figure_table
from mla_lightning.report.figures.style import save
from mla_lightning.report.read.cache import stamp
from mla_lightning.report.read.run import Run
from mla_lightning.run_folder import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Name of the file that lists the figures and their fingerprints.
DRAWN = ".drawn.json"
EXTENSIONS = ("svg", "png", "pdf")
#: Fields of a run that do not change what is drawn.
_IGNORED = ("path", "where", "stale")


@dataclass(frozen=True)
class Drawing:
    """A figure of the page.

    Attributes:
        svg: The SVG document.
        data: Table of its numbers, None for figures without one.
    """

    svg: str
    data: Table | None


def fingerprint(runs: Iterable[Run]) -> str:
    """Return a hash of everything that the figures of some runs depend on.

    Args:
        runs: The runs.

    Returns:
        SHA-256 as hex, of the runs, their files and the code of the reports.
    """
    digest = hashlib.sha256(_code().encode())
    names = [field.name for field in fields(Run) if field.name not in _IGNORED]
    for run in runs:
        digest.update(repr([getattr(run, name) for name in names]).encode())
        digest.update(repr(stamp(run.path) if run.path else None).encode())
    return digest.hexdigest()


class DrawingCache:
    """Figures and tables of a page, reused as long as their fingerprints are the same."""

    def __init__(self, folder: Path) -> None:
        """Read the list of figures; a damaged list counts as empty.

        Args:
            folder: Folder of the figures.
        """
        self.folder = folder
        #: File name without extension -> why the figure could not be drawn.
        self.failed: dict[str, str] = {}
        self.num_drawn = 0
        self._previous: dict[str, Any] = {}
        self._current: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            self._previous = dict(json.loads((folder / DRAWN).read_text(encoding="utf-8")))

    def figure(self, stem: str, key: str, draw: Callable[[], Figure | None]) -> Drawing | None:
        """Return a figure, drawn only if it is new or has changed.

        Args:
            stem: File name without extension.
            key: Fingerprint.
            draw: Draws the figure; None where nothing was measured.

        Returns:
            The drawing; None if there is nothing to draw, or if drawing failed.
        """
        entry = self._entry(stem, key)
        if entry is None or (entry["drawn"] and not self._has_files(stem)):
            try:
                figure = draw()
                entry = {"key": key, "drawn": figure is not None, "data": None}
                if figure is not None:
                    data = figure_table(figure)
                    entry["data"] = None if data is None else asdict(data)
                    add_tooltips(figure)
                    save(figure, self.folder / stem)
            except OSError:  # the folder cannot be written to
                raise
            except Exception as error:  # a failed figure must not prevent the page
                is_known = isinstance(error, MLAError)
                self.failed[stem] = str(error) if is_known else f"{type(error).__name__}: {error}"
                return None
            self.num_drawn += figure is not None
        self._current[stem] = entry
        if not entry["drawn"]:
            return None
        svg = (self.folder / f"{stem}.svg").read_text(encoding="utf-8")
        return Drawing(svg, _table(entry["data"]))

    def table(self, stem: str, key: str, make: Callable[[], Table]) -> Table:
        """Return a table, made only if it is new or has changed.

        Args:
            stem: File name without extension.
            key: Fingerprint.
            make: Makes the table.

        Returns:
            The table.
        """
        name = f"{stem}.csv"  # a figure may have the same stem
        entry = self._entry(name, key) or {"key": key, "data": asdict(make())}
        self._current[name] = entry
        table = _table(entry["data"])
        assert table is not None
        return table

    def write(self) -> None:
        """Write the list of figures and tables."""
        write_text(self.folder / DRAWN, json.dumps(self._current))

    def _entry(self, stem: str, key: str) -> dict[str, Any] | None:
        entry = self._previous.get(stem)
        return entry if isinstance(entry, dict) and entry.get("key") == key else None

    def _has_files(self, stem: str) -> bool:
        return all((self.folder / f"{stem}.{extension}").is_file() for extension in EXTENSIONS)


def _table(content: dict[str, Any] | None) -> Table | None:
    if content is None:
        return None
    sections = tuple(
        Section(
            **section
            | {
                "rows": tuple(
                    Row(**row | {"cells": tuple(Cell(**cell) for cell in row["cells"])})
                    for row in section["rows"]
                )
            }
        )
        for section in content["sections"]
    )
    tuples = {name: tuple(content[name]) for name in ("columns", "notes")}
    return Table(**content | tuples | {"sections": sections})


@cache
def _code() -> str:
    """Return a hash of the code of the reports and of matplotlib's version."""
    import matplotlib

    digest = hashlib.sha256(matplotlib.__version__.encode())
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
