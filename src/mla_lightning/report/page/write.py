"""Writing of the page, with its tables and figures as files for papers beside it."""

from __future__ import annotations

import gc
import shlex
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mla_lightning.errors import RunError, reason_of
from mla_lightning.report.document import render
from mla_lightning.report.document.table import Report, ReportBuilder, Table
from mla_lightning.report.figures.cache import DrawingCache, FigureJob, Job, TableJob
from mla_lightning.report.figures.panels import Panel
from mla_lightning.report.page.content import Overview, PageSection, build_overview
from mla_lightning.report.page.html import to_overview_page
from mla_lightning.report.read.results_csv import RESULTS, write_csv
from mla_lightning.report.read.run import Run
from mla_lightning.run_folder import write_text

PAGE = "page.html"


def write_page(
    runs: Sequence[Run],
    builders: Mapping[str, ReportBuilder],
    panels: Sequence[Panel],
    folder: Path,
    command: Sequence[str],
) -> int:
    """Write one HTML page of all runs, with its tables and figures as files beside it.

    Args:
        runs: The runs.
        builders: Kind of report -> its function.
        panels: The figures of every block of runs.
        folder: Folder of the files; created if missing.
        command: The command line that makes this page again.

    Returns:
        The exit code 0.

    Raises:
        RunError: If no run has a data set, method and seed, or the files cannot be written.
    """
    content = build_overview(runs, builders, panels)
    content = replace(content, commands=(*content.commands, shlex.join(command)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_csv(folder / RESULTS, runs)
        cache = DrawingCache(folder)
        with _rare_collections():
            jobs = [job for section in content.sections for job in _jobs(section)]
            missing = cache.missing(jobs)
            _show_progress(cache.make(missing), len(missing))
            drawings = {
                job.name: drawing
                for job in jobs
                if isinstance(job, FigureJob) and (drawing := cache.figure(job)) is not None
            }
        sections = tuple(_complete(section, cache) for section in content.sections)
        content = replace(content, sections=sections)
        cache.write()
        for name, text in _table_files(content).items():
            write_text(folder / name, text)
        page = folder / PAGE
        write_text(page, to_overview_page(content, drawings))
    except OSError as error:
        raise RunError(f"Cannot write the page to {folder}: {reason_of(error)}") from error
    print(f"{content.counts}. {len(drawings)} figures, {cache.num_drawn} of them newly drawn.")
    print(f"Open {page} in a browser.")
    return 0


def _jobs(section: PageSection) -> Iterator[Job]:
    """Yield the figures and tables of a section."""
    for stem, draw in section.report.figures.items():
        yield FigureJob(stem, section.key, draw)
    for figure in section.figures:
        yield FigureJob(figure.stem, figure.key, figure.draw)
    yield from _table_jobs(section)


def _table_jobs(section: PageSection) -> list[TableJob]:
    return [TableJob(f"{table.stem}.csv", table.key, table.make) for table in section.lazy_tables]


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Collect garbage less often in the context: the many small objects of figures are in use."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()  # the runs, which stay
    gc.set_threshold(20_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _complete(section: PageSection, cache: DrawingCache) -> PageSection:
    """Make the lazy tables of a section, and add warnings for figures that failed."""
    tables = [cache.table(job) for job in _table_jobs(section)]
    stems = [*section.report.figures, *(figure.stem for figure in section.figures)]
    warnings = [
        f"{stem} cannot be drawn: {cache.failed[stem]}" for stem in stems if stem in cache.failed
    ]
    return replace(section, tables=tuple(tables), warnings=tuple(warnings))


def _table_files(content: Overview) -> dict[str, str]:
    """Return name -> content of the files of all tables, and of the reports' further files."""
    files: dict[str, str] = {}
    for section in content.sections:
        files |= render.to_files(section.report, section.slug)
        files |= {f"{section.slug}-{name}": text for name, text in section.report.texts.items()}
        for table in section.tables:
            if table.written_sections:
                files |= _files_of_table(table, table.slug)
    files |= _files_of_table(content.settings, "what")
    for table in content.runs.tables:
        files |= _files_of_table(table, "runs")
    return files


def _files_of_table(table: Table, stem: str) -> dict[str, str]:
    return render.to_files(Report(stem, table.title, (replace(table, slug=""),)), stem)


def _show_progress(steps: Iterable[None], num: int) -> None:
    """Go through all steps, with a progress bar on a terminal."""
    from rich.progress import track

    if sys.stderr.isatty():
        from rich.console import Console

        console = Console(stderr=True)
        steps = track(steps, "drawing", total=num, console=console, transient=True)
    deque(steps, maxlen=0)
