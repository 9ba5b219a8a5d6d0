"""The page and what lies beside it: tables and figures that go into a paper as they are."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mla_lightning.errors import RunError
from mla_lightning.report.document import render
from mla_lightning.report.document.table import Maker, Report, Table
from mla_lightning.report.figures.cache import Drawing, Drawings
from mla_lightning.report.figures.panels import Panel
from mla_lightning.report.page.content import Overview, Part, overview
from mla_lightning.report.page.html import to_overview_page
from mla_lightning.report.read.results_csv import RESULTS, write_csv
from mla_lightning.report.read.run import Run
from mla_lightning.run_folder import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "page.html"
#: Stem, fingerprint, and what draws.
Wanted = tuple[str, str, Callable[[], "Figure | None"]]


def write_page(
    runs: Sequence[Run],
    makers: Mapping[str, Maker],
    panels: Sequence[Panel],
    folder: Path,
    command: Sequence[str],
) -> int:
    """Make one HTML page of everything that runs show, with its tables and figures beside it.

    Args:
        runs: The runs.
        makers: Kind of report -> what makes it.
        panels: The figures of every block of runs.
        folder: Where to; made if it is not there.
        command: The words that make this page again.

    Returns:
        The exit code 0.

    Raises:
        RunError: If no run tells what it is, or the files cannot be written.
    """
    content = overview(runs, makers, panels)
    content = replace(content, commands=(*content.commands, shlex.join(command)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / RESULTS, runs)
        drawings = Drawings(folder)
        drawn = dict(_drawn(content, drawings))
        content = replace(content, parts=tuple(_completed(p, drawings) for p in content.parts))
        drawings.write()
        for name, text in _tables(content).items():
            write_text(folder / name, text)
        page = folder / PAGE
        write_text(page, to_overview_page(content, drawn))
    except OSError as error:
        raise RunError(f"Cannot write the page to {folder}: {error}") from error
    print(f"{content.title}. {len(drawn)} figures, {drawings.num_drawn} of them drawn now.")
    print(f"Open {page} in a browser.")
    return 0


def _drawn(content: Overview, drawings: Drawings) -> Iterator[tuple[str, Drawing]]:
    wanted: list[Wanted] = [
        (stem, part.key, draw)
        for part in content.parts
        for stem, draw in part.report.figures.items()
    ]
    wanted += [(one.stem, one.key, one.draw) for part in content.parts for one in part.pictures]
    for stem, key, draw in _shown(wanted):
        drawing = drawings.figure(stem, key, draw)
        if drawing is not None:
            yield stem, drawing


def _completed(part: Part, drawings: Drawings) -> Part:
    """Make the tables that need the runs' files, and tell which figures could not be drawn."""
    tables = [drawings.table(one.stem, one.key, one.make) for one in part.pending]
    stems = [*part.report.figures, *(one.stem for one in part.pictures)]
    failed = [
        f"{stem} cannot be drawn: {drawings.failed[stem]}"
        for stem in stems
        if stem in drawings.failed
    ]
    return replace(part, tables=tuple(tables), warnings=tuple(failed))


def _tables(content: Overview) -> dict[str, str]:
    """Write all tables of the page, and the further files of its reports."""
    found: dict[str, str] = {}
    for part in content.parts:
        found |= render.to_files(part.report, part.slug)
        found |= {f"{part.slug}-{name}": text for name, text in part.report.texts.items()}
        for table in part.tables:
            found |= _alone(table, table.slug)
    found |= _alone(content.what, "what")
    for table in content.runs.tables:
        found |= _alone(table, "runs")
    return found


def _alone(table: Table, stem: str) -> dict[str, str]:
    return render.to_files(Report(stem, table.title, (replace(table, slug=""),)), stem)


def _shown(wanted: Sequence[Wanted]) -> Iterator[Wanted]:
    """Go through figures behind a progress bar, on a terminal."""
    from rich.progress import track

    if sys.stderr.isatty():
        from rich.console import Console

        yield from track(wanted, "drawing", console=Console(stderr=True), transient=True)
    else:
        yield from wanted
