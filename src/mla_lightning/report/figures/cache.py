"""Cache of drawn figures: a page is made again without redrawing unchanged figures."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mla_lightning.errors import MLAError
from mla_lightning.report.document.table import Cell, Row, Section, Table
from mla_lightning.report.figures.beside import beside
from mla_lightning.report.figures.numbers import add_tooltips, figure_table
from mla_lightning.report.figures.processes import (
    map_in_processes,
    num_processes,
    split_evenly,
)
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
        remark: What the figure leaves out, in sentences that follow the caption.
    """

    svg: str
    data: Table | None
    remark: str = ""


@dataclass(frozen=True)
class FigureJob:
    """A figure to draw if it is new or has changed.

    Attributes:
        name: Name of its files without extension.
        key: Fingerprint; figures and tables that share what they read begin alike, up to a hyphen.
        draw: Draws it; None where nothing was measured.
    """

    name: str
    key: str
    draw: Callable[[], Figure | None]


@dataclass(frozen=True)
class TableJob:
    """A table to make if it is new or has changed.

    Attributes:
        name: Name of one of its files, since a figure may have the same name without extension.
        key: Fingerprint, as of a figure.
        make: Makes it.
    """

    name: str
    key: str
    make: Callable[[], Table]


Job = FigureJob | TableJob


class _Outcome(NamedTuple):
    """The entry of a figure or table in the list, or why it could not be drawn."""

    name: str
    entry: dict[str, Any] | None
    reason: str = ""


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

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Return the figures and tables that are new or have changed.

        Args:
            jobs: Figures and tables.

        Returns:
            Those to make; neighbours share what they read.
        """
        by_key: dict[str, list[Job]] = {}
        for job in jobs:
            if self._entry(job) is None:
                by_key.setdefault(job.key.partition("-")[0], []).append(job)
        return [job for group in by_key.values() for job in group]

    def make(self, jobs: Sequence[Job]) -> Iterator[None]:
        """Draw figures and make tables, in several processes, which are started at once.

        Args:
            jobs: Figures and tables.

        Returns:
            Iterator over as many None, one whenever a figure or table is made.
        """
        if jobs:  # loaded here once, for all processes
            from matplotlib import figure  # noqa: F401
            from matplotlib.backends import backend_agg, backend_pdf, backend_svg  # noqa: F401
        outcomes = map_in_processes(self._make, split_evenly(jobs, num_processes()))
        return map(self._add, outcomes)

    def figure(self, job: Job) -> Drawing | None:
        """Return a figure, drawn only if it is new or has changed.

        Args:
            job: The figure.

        Returns:
            The drawing; None if there is nothing to draw, or if drawing failed.
        """
        entry = self._kept(job)
        if entry is None or not entry["drawn"]:
            return None
        svg = (self.folder / f"{job.name}.svg").read_text(encoding="utf-8")
        return Drawing(svg, _table(entry["data"]), entry.get("remark", ""))

    def table(self, job: Job) -> Table:
        """Return a table, made only if it is new or has changed.

        Args:
            job: The table.

        Returns:
            The table.
        """
        entry = self._kept(job)
        table = None if entry is None else _table(entry["data"])
        assert table is not None
        return table

    def _kept(self, job: Job) -> dict[str, Any] | None:
        """Return the entry of a figure or table, made if necessary; None if drawing failed."""
        if job.name not in self.failed and self._entry(job) is None:
            self._add(self._make(job))
        entry = self._entry(job)
        if entry is not None:
            self._current[job.name] = entry
        return entry

    def _make(self, job: Job) -> _Outcome:
        if isinstance(job, TableJob):
            return _Outcome(job.name, {"key": job.key, "data": asdict(job.make())})
        try:
            figure = job.draw()
            entry = {"key": job.key, "drawn": figure is not None, "data": None}
            if figure is not None:
                data = figure_table(figure)
                entry["data"] = None if data is None else asdict(data)
                entry["remark"] = beside(figure).remark
                add_tooltips(figure)
                save(figure, self.folder / job.name)
        except OSError:  # the folder cannot be written to
            raise
        except Exception as error:  # a failed figure must not prevent the page
            is_known = isinstance(error, MLAError)
            reason = str(error) if is_known else f"{type(error).__name__}: {error}"
            return _Outcome(job.name, None, reason)
        return _Outcome(job.name, entry)

    def _add(self, outcome: _Outcome) -> None:
        if outcome.entry is None:
            self.failed[outcome.name] = outcome.reason
            return
        self.num_drawn += outcome.entry.get("drawn", False)
        self._current[outcome.name] = outcome.entry

    def write(self) -> None:
        """Write the list of figures and tables."""
        write_text(self.folder / DRAWN, json.dumps(dict(sorted(self._current.items()))))

    def _entry(self, job: Job) -> dict[str, Any] | None:
        """Return the entry of a figure or table; None if it is new, has changed or lost a file."""
        entry = self._current.get(job.name) or self._previous.get(job.name)
        if not isinstance(entry, dict) or entry.get("key") != job.key:
            return None
        files = [self.folder / f"{job.name}.{extension}" for extension in EXTENSIONS]
        is_complete = not entry.get("drawn") or all(path.is_file() for path in files)
        return entry if is_complete else None


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
