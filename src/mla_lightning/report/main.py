"""``mla report``: read runs, make a report, write its files and print it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mla_lightning.errors import RunError, reason_of
from mla_lightning.identity.code import forget_code
from mla_lightning.report.document import render
from mla_lightning.report.document.html import NotebookReport, to_html
from mla_lightning.report.document.table import Report, ReportBuilder
from mla_lightning.report.read.cache import RunCache
from mla_lightning.report.read.results_csv import RESULTS, read_csv, write_csv
from mla_lightning.report.read.run import Run
from mla_lightning.report.read.run_folders import read_runs
from mla_lightning.report.tables.kinds import PAGE, builder, kinds, maker
from mla_lightning.report.tables.notes import EARLIER_CODE, stale_warnings
from mla_lightning.run_folder import CONFIG, write_text

#: Width of the output, in characters, where it is not a terminal.
WIDTH = 120


def write_report(
    kind: str, runs: Sequence[Path], output: Path | None = None, config_dir: Path | None = None
) -> int:
    """Make a report from runs, write its files and print it.

    Args:
        kind: ``page``, or one of :func:`~mla_lightning.report.tables.kinds.kinds`.
        runs: Run folders, folders above them, or ``results.csv`` files.
        output: Folder for the files; by default ``report`` in the folder above the runs.
        config_dir: A user's own folder of config groups, with ``report/`` and ``panel/``; None for
            none.

    Returns:
        The exit code 0, also if the report shows failed or missing runs.

    Raises:
        ConfigError: If there is no such kind.
        RunError: If there are no runs, two runs of one variant and seed conflict, or the files
            cannot be written.
    """
    if kind == PAGE:
        from mla_lightning.report.figures.panels import panels
        from mla_lightning.report.page.write import write_page

        folder = default_output(runs) if output is None else output
        builders = {name: builder(entry) for name, entry in kinds(config_dir).items()}
        command = ["mla", "report", PAGE, *map(str, runs), "--output", str(folder)]
        return write_page(_read(runs), builders, panels(config_dir), folder, command)
    return write_custom_report(maker(kind, config_dir), runs, output)


def write_custom_report(
    make: ReportBuilder, runs: Sequence[Path], output: Path | None = None
) -> int:
    """Make a report with a function of your own, write its files and print it.

    For scripts whose report is no kind of ``mla report``, such as those in ``experiments/``.

    Args:
        make: Function that makes the report from the runs.
        runs: Run folders, folders above them, or ``results.csv`` files.
        output: Folder for the files; by default ``report`` in the folder above the runs.

    Returns:
        The exit code 0.

    Raises:
        RunError: If there are no runs, or the files cannot be written; errors of ``make`` are
            passed on.
    """
    from rich.console import Console

    folder = default_output(runs) if output is None else output
    results = _read(runs)
    report = make(results)
    if not any(EARLIER_CODE in warning for warning in report.warnings):
        warnings = (*report.warnings, *stale_warnings(results))
        report = replace(report, warnings=warnings)
    try:
        written = write_files(report, results, folder)
    except OSError as error:
        raise RunError(f"Cannot write the report to {folder}: {reason_of(error)}") from error
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(width=WIDTH)
    render.to_terminal(report, console)
    console.print()
    lines = [f"{len(written)} files in {folder}: {', '.join(written)}"]
    if pages := [name for name in written if name.endswith(".html")]:
        lines.append(f"Open {folder / pages[0]} in a browser.")
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    return 0


def make_report(kind: str, runs: Sequence[Path], config_dir: Path | None = None) -> NotebookReport:
    """Make a report without writing it.

    Args:
        kind: One of :func:`~mla_lightning.report.tables.kinds.kinds`.
        runs: Run folders, folders above them, or ``results.csv`` files.
        config_dir: A user's own folder of config groups with ``report/``, None for none.

    Returns:
        The report, which a notebook shows as HTML.

    Raises:
        ConfigError: If there is no such kind.
        RunError: If there are no runs, or two runs of one variant and seed conflict.
    """
    forget_code()  # files may have been edited since an earlier call in this process
    return NotebookReport(**vars(maker(kind, config_dir)(read_runs(runs))))


def _read(runs: Sequence[Path]) -> list[Run]:
    """Read runs, those that an earlier report has read from its cache."""
    cache = RunCache(default_output(runs).parent)
    results = read_runs(runs, cache)
    cache.write()
    return results


def default_output(runs: Sequence[Path]) -> Path:
    """Return the default folder of a report's files.

    Args:
        runs: Run folders, folders above them, or ``results.csv`` files.

    Returns:
        ``report`` in the folder that holds the runs.

    Example:
        >>> str(default_output([Path("runs/table1"), Path("runs/table3")]))
        'runs/report'
    """
    roots = []
    for path in runs:
        is_run = path.is_file() or (path / CONFIG).is_file()
        roots.append(path.absolute().parent if is_run else path.absolute())
    folder = Path(os.path.commonpath(roots)) / "report"
    current = Path.cwd()
    return folder.relative_to(current) if folder.is_relative_to(current) else folder


def write_files(report: Report, runs: Sequence[Run], folder: Path) -> list[str]:
    """Write a report's files: results, tables, figures, and one HTML page of them.

    Args:
        report: The report.
        runs: The runs that it was made from.
        folder: The folder; created if it does not exist.

    Returns:
        Names of the files.

    Raises:
        RunError: If the ``results.csv`` in the folder holds runs that would be lost.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = runs if report.runs is None else report.runs
    if report.runs is not None:
        _check_no_loss(folder / RESULTS, results)
    if results:
        write_csv(folder / RESULTS, results)
    texts = render.to_files(report, report.kind) | report.texts
    for name, text in texts.items():
        write_text(folder / name, text)
    written = [*([RESULTS] if results else []), *texts]
    for stem, draw in report.figures.items():
        from mla_lightning.report.figures.style import save

        written += save(draw(), folder / stem)
    drawn = {stem: (folder / f"{stem}.svg").read_text("utf-8") for stem in report.figures}
    page = f"{report.kind}.html"
    write_text(folder / page, to_html(report, drawn))
    return [*written, page]


def _check_no_loss(path: Path, runs: Sequence[Run]) -> None:
    """Raise an error if a results table that is to be replaced holds runs that are not given."""
    if not path.is_file():
        return
    lost = {run.key for run in read_csv(path)} - {run.key for run in runs}
    if lost:
        raise RunError(
            f"{path} holds {len(lost)} runs that are not among the given ones and would be lost. "
            "Name it too, to add to it, or choose another folder with --output."
        )
