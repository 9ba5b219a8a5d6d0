"""``mla report``: read runs, write the report's files, print it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mla_lightning.errors import RunError
from mla_lightning.report.document import render
from mla_lightning.report.document.html import to_html
from mla_lightning.report.document.table import Report, ReportBuilder
from mla_lightning.report.read.cache import RunCache
from mla_lightning.report.read.results_csv import RESULTS, read_csv, write_csv
from mla_lightning.report.read.run import Run
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.kinds import PAGE, kinds, maker
from mla_lightning.run_folder import CONFIG, write_text

#: Width of what is printed where there is no terminal to ask.
WIDTH = 120


def write_report(
    kind: str, runs: Sequence[Path], output: Path | None = None, config_dir: Path | None = None
) -> int:
    """Make a report from runs, write its files and print it.

    Args:
        kind: ``page``, or one of :func:`~mla_lightning.report.tables.kinds.kinds`.
        runs: Run folders, folders above them, or ``results.csv`` files.
        output: Folder for the files; by default ``report`` in the folder above the runs.
        config_dir: A user's own folder with ``report/`` and ``panel/``, None for none.

    Returns:
        The exit code 0: a report that shows failed or missing runs is a report.

    Raises:
        ConfigError: If there is no such kind.
        RunError: If there are no runs, a cell was run twice, or the files cannot be written.
    """
    if kind == PAGE:
        from mla_lightning.report.figures.panels import panels
        from mla_lightning.report.page.write import write_page

        folder = default_output(runs) if output is None else output
        builders = {name: spec.function() for name, spec in kinds(config_dir).items()}
        command = ["mla", "report", PAGE, *map(str, runs), "--output", str(folder)]
        return write_page(_read(runs), builders, panels(config_dir), folder, command)
    return write_custom_report(maker(kind, config_dir), runs, output)


def write_custom_report(
    make: ReportBuilder, runs: Sequence[Path], output: Path | None = None
) -> int:
    """Make a report by a function of your own, write its files and print it.

    This is how a script shows what no kind of ``mla report`` does; the scripts below
    ``experiments/`` are examples.

    Args:
        make: Makes the report from the runs that were read.
        runs: Run folders, folders above them, or ``results.csv`` files.
        output: Folder for the files; by default ``report`` in the folder above the runs.

    Returns:
        The exit code 0.

    Raises:
        RunError: If there are no runs, or the files cannot be written; and what ``make`` raises.
    """
    from rich.console import Console

    folder = default_output(runs) if output is None else output
    results = _read(runs)
    report = make(results)
    try:
        written = write_files(report, results, folder)
    except OSError as error:
        raise RunError(f"Cannot write the report to {folder}: {error}") from error
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=WIDTH)
    render.to_terminal(report, console)
    console.print()
    console.print(f"Written to {folder}: {', '.join(written)}", markup=False, highlight=False)
    return 0


def make_report(kind: str, runs: Sequence[Path], config_dir: Path | None = None) -> Report:
    """Make a report without writing it.

    Args:
        kind: One of :func:`~mla_lightning.report.tables.kinds.kinds`.
        runs: As :func:`write_report` takes them.
        config_dir: As :func:`write_report` takes it.

    Returns:
        The report.
    """
    return maker(kind, config_dir)(read_runs(runs))


def _read(runs: Sequence[Path]) -> list[Run]:
    """Read runs, of those that an earlier report of the same folders read only what changed."""
    cache = RunCache(default_output(runs).parent)
    found = read_runs(runs, cache)
    cache.write()
    return found


def default_output(runs: Sequence[Path]) -> Path:
    """Choose where a report's files go.

    Args:
        runs: What the report is made from.

    Returns:
        ``report`` in the folder that holds the runs.
    """
    roots = []
    for path in runs:
        is_run = path.is_file() or (path / CONFIG).is_file()
        roots.append(path.absolute().parent if is_run else path.absolute())
    folder = Path(os.path.commonpath(roots)) / "report"
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder


def write_files(report: Report, runs: Sequence[Run], folder: Path) -> list[str]:
    """Write a report's files: results, tables, figures, and all of it as one HTML page.

    Args:
        report: The report.
        runs: What it was made from.
        folder: Where to; made if it is not there.

    Returns:
        Names of the files.

    Raises:
        RunError: If a table of results there holds runs that would be lost.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = runs if report.runs is None else report.runs
    if report.runs is not None:
        _refuse_loss(folder / RESULTS, kept)
    if kept:
        write_csv(folder / RESULTS, kept)
    texts = render.to_files(report, report.kind) | report.texts
    for name, text in texts.items():
        write_text(folder / name, text)
    written = [*([RESULTS] if kept else []), *texts]
    for stem, draw in report.figures.items():
        from mla_lightning.report.figures.style import save

        written += save(draw(), folder / stem)
    drawn = {stem: (folder / f"{stem}.svg").read_text("utf-8") for stem in report.figures}
    page = f"{report.kind}.html"
    write_text(folder / page, to_html(report, drawn))
    return [*written, page]


def _refuse_loss(path: Path, runs: Sequence[Run]) -> None:
    """Stop before a table that grows from report to report loses cells that nobody named."""
    if not path.is_file():
        return
    lost = {run.key for run in read_csv(path)} - {run.key for run in runs}
    if lost:
        raise RunError(
            f"{path} holds {len(lost)} runs that are not among those given. Name it too, to add "
            "to it, or choose another folder with --output."
        )
