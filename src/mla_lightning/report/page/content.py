"""Content of the page: a section per experiment, with its report, figures and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from mla_lightning.errors import MLAError, RunError
from mla_lightning.report.document.table import (
    Report,
    ReportBuilder,
    Table,
)
from mla_lightning.report.figures.cache import fingerprint
from mla_lightning.report.figures.curves import curves_figure, curves_from_diagnostics
from mla_lightning.report.figures.panels import Panel
from mla_lightning.report.page.further_tables import calibration, parameters
from mla_lightning.report.page.story import chapter_of, story
from mla_lightning.report.read.block import Block, blocks, is_identified, limit_variants, slug_of
from mla_lightning.report.read.diagnostics import BlockDiagnostics, read_diagnostics
from mla_lightning.report.read.run import MULTI, Run
from mla_lightning.report.tables.commands import commands
from mla_lightning.report.tables.run_list import ledger
from mla_lightning.report.tables.verdict import verdict
from mla_lightning.report.tables.what_was_run import what_was_run
from mla_lightning.run_folder import DIAGNOSTICS
from mla_lightning.run_folder.tasks import CLASSIFICATION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Name of the section of runs whose experiment has no name.
UNNAMED = "train"
#: A page of more experiments is not titled by their names.
MOST_NAMES = 3
#: Names of files that belong to no section.
RESERVED = ("page", "results", "runs", "what")
NO_DIAGNOSTICS = (
    "No diagnostics: these runs were made with diagnostics=off. Train with diagnostics=epoch to "
    "record them."
)
FROM_CSV = "No diagnostics: results.csv does not hold them. Give the run folders instead."
#: End of the names of tables of findings.
STORY = "-story"
NONE_FINISHED = "No diagnostics: no run has finished."


@dataclass(frozen=True)
class PageFigure:
    """A figure of the page.

    Attributes:
        stem: Name of its files without extension.
        title: Title.
        reading: Caption.
        draw: Draws it; None where nothing was measured.
        key: Fingerprint.
        dataset: Title of the block, for screen readers.
        chapter: Title of its chapter.
    """

    stem: str
    title: str
    reading: str
    draw: Callable[[], Figure | None]
    key: str
    dataset: str
    chapter: str = ""


@dataclass(frozen=True)
class LazyTable:
    """A table that is made from the files of the runs when it is needed.

    Attributes:
        stem: Name of its files without extension.
        key: Fingerprint.
        make: Makes it.
    """

    stem: str
    key: str
    make: Callable[[], Table]


@dataclass(frozen=True)
class PageSection:
    """The section of one experiment: its report, and the diagnostics of its runs.

    Attributes:
        name: Name of the experiment.
        slug: Beginning of its file names, unique on the page.
        report: Its report.
        key: Fingerprint of the report's figures.
        figures: Its further figures.
        lazy_tables: Its further tables, not made yet.
        notes: What is missing, and why.
        tables: Its further tables, made.
        warnings: Figures that could not be drawn.
        verdicts: The result in one sentence per data set.
    """

    name: str
    slug: str
    report: Report
    key: str
    figures: tuple[PageFigure, ...]
    lazy_tables: tuple[LazyTable, ...]
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    warnings: tuple[str, ...] = ()
    verdicts: tuple[str, ...] = ()

    @property
    def findings(self) -> dict[str, list[str]]:
        """Title of a chapter -> its headlines, one per data set that has one."""
        by_chapter: dict[str, list[str]] = {}
        stories = [table for table in self.tables if table.slug.endswith(STORY)]
        for part in (part for table in stories for part in table.sections):
            for row in part.rows:
                title = f"{part.title}: " if len(stories) > 1 else ""
                by_chapter.setdefault(row.label, []).append(title + row.cells[0].text)
        return by_chapter


@dataclass(frozen=True)
class Overview:
    """Content of the page.

    Attributes:
        title: Names of the experiments.
        counts: Number of runs by state, such as ``27 runs: 27 finished``.
        settings: Table of data, methods, seeds and settings.
        sections: A section per experiment.
        runs: List of all runs, with failures and retry commands.
        commands: Commands that make all of it again.
    """

    title: str
    counts: str
    settings: Table
    sections: tuple[PageSection, ...]
    runs: Report
    commands: tuple[str, ...] = field(default=())


def build_overview(
    runs: Sequence[Run], builders: Mapping[str, ReportBuilder], panels: Sequence[Panel]
) -> Overview:
    """Build the content of the page.

    Args:
        runs: Any runs.
        builders: Kind of report -> its function. An experiment whose name begins with a kind is
            shown as that kind, any other as ``table1``.
        panels: The figures of every block of runs.

    Returns:
        The content.

    Raises:
        RunError: If no run has a data set, method and seed.
    """
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        if is_identified(run):
            by_name.setdefault(run.name or UNNAMED, []).append(run)
    if not by_name:
        raise RunError("Nothing to show: no run has a data set, method and seed.")
    sections, named_blocks = [], []
    for name, slug in slugs(sorted(by_name)).items():
        report = _report(name, by_name[name], builders)
        section, section_blocks = _section(name, slug, report, by_name[name], panels)
        sections.append(section)
        named_blocks += [(name, block) for block in section_blocks]
    states = Counter(run.state for run in runs)
    counts = ", ".join(f"{count} {state}" for state, count in states.most_common())
    return Overview(
        title=_title([section.name for section in sections]),
        counts=f"{len(runs)} run{'s' * (len(runs) != 1)}: {counts}",
        settings=what_was_run(named_blocks),
        sections=tuple(sections),
        runs=ledger(runs),
        commands=tuple(commands(runs)),
    )


def _title(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= MOST_NAMES else f"{len(names)} experiments"


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Assign a unique beginning of file names to each section.

    Args:
        names: Names of the sections.

    Returns:
        Name -> beginning, safe in file names and unique without regard to case.

    Example:
        >>> slugs(["mine/a", "Mine/a", "page"])
        {'mine/a': 'mine-a', 'Mine/a': 'Mine-a-2', 'page': 'page-2'}
    """
    taken = set(RESERVED)
    by_name = {}
    for name in names:
        plain = slug_of(*name.split("/"))
        choices = (plain, *(f"{plain}-{number}" for number in range(2, len(taken) + 3)))
        by_name[name] = next(slug for slug in choices if slug.lower() not in taken)
        taken.add(by_name[name].lower())
    return by_name


def _report(name: str, runs: Sequence[Run], builders: Mapping[str, ReportBuilder]) -> Report:
    """Build a section's report; if its kind fails, ``table1`` or the list with a warning."""
    kind = name.partition("/")[0]
    try:
        report = builders.get(kind, builders["table1"])(runs)
        if any(table.written_sections for table in report.tables):
            return report
        reason = f"{report.title}: there is nothing to show."
    except MLAError as error:
        reason = f"Not shown as {kind}: {error}" if kind in builders else str(error)
    try:
        plain = builders["table1"](runs)
    except RunError:
        plain = ledger(runs)
    return replace(plain, warnings=(reason, *plain.warnings))


class _BlockDiagnostics:
    """Diagnostics of a block's runs, read when the first figure needs them."""

    def __init__(self, block: Block) -> None:
        self.block, self.remark = limit_variants(block)

    @cached_property
    def key(self) -> str:
        return fingerprint(self.block.runs)

    @property
    def exist(self) -> bool:
        folders = [run.path for run in self.block.runs if run.path and run.is_finished]
        return any((folder / DIAGNOSTICS).is_file() for folder in folders)

    @property
    def reason_missing(self) -> str:
        """Return why there are no diagnostics."""
        finished = [run for run in self.block.runs if run.is_finished]
        if not finished:
            return NONE_FINISHED
        return NO_DIAGNOSTICS if any(run.path for run in finished) else FROM_CSV

    @cached_property
    def values(self) -> BlockDiagnostics:
        return read_diagnostics(self.block)

    def draw(self, function: Callable[[BlockDiagnostics], Figure | None]) -> Figure | None:
        return function(self.values)

    def draw_curves(self) -> Figure | None:
        curves = curves_from_diagnostics(self.values, (*self.block.modalities, MULTI))
        return curves_figure(curves, self.block.title) if curves.epochs else None

    def story(self, slug: str) -> Table:
        return story(self.block, self.values, slug)

    def table(self, function: Callable[[BlockDiagnostics, str], Table], slug: str) -> Table:
        return function(self.values, slug)


def _section(
    name: str, slug: str, report: Report, runs: Sequence[Run], panels: Sequence[Panel]
) -> tuple[PageSection, list[Block]]:
    figures: list[PageFigure] = []
    lazy_tables: list[LazyTable] = []
    notes: list[str] = []
    section_blocks: list[Block] = []
    try:
        section_blocks = blocks(runs)
    except RunError as error:
        notes.append(f"{name}: no curves and diagnostics. {error}")
    for block in section_blocks:
        diagnostics = _BlockDiagnostics(block)
        stem = f"{slug}-{block.slug}"
        figures += _figures(stem, diagnostics, panels)
        if any(run.is_finished for run in block.runs):
            make_story = partial(diagnostics.story, stem + STORY)
            lazy_tables.append(LazyTable(stem + STORY, diagnostics.key, make_story))
        if diagnostics.exist:
            for suffix, function in (
                *((("calibration", calibration),) if not block.task else ()),
                ("parameters", parameters),
            ):
                table_stem = f"{stem}-{suffix}"
                make = partial(diagnostics.table, function, table_stem)
                lazy_tables.append(LazyTable(table_stem, diagnostics.key, make))
            notes += _not_defined(block, panels)
        else:
            notes.append(f"{block.title}: {diagnostics.reason_missing}")
    report_figures = {
        f"{slug}-{stem.removeprefix(f'{report.kind}-')}": draw
        for stem, draw in report.figures.items()
    }
    captions = {
        f"{slug}-{stem.removeprefix(f'{report.kind}-')}": caption
        for stem, caption in report.captions.items()
    }
    section = PageSection(
        name,
        slug,
        replace(report, figures=report_figures, captions=captions),
        fingerprint(runs),
        tuple(figures),
        tuple(lazy_tables),
        tuple(dict.fromkeys(notes)),
        verdicts=tuple(map(verdict, section_blocks)),
    )
    return section, section_blocks


def _not_defined(block: Block, panels: Sequence[Panel]) -> Iterator[str]:
    """Yield which figures of classification are left out because the task has no classes."""
    left_out = [
        panel.title
        for panel in panels
        if panel.for_task(block.task) is None and panel.tasks == (CLASSIFICATION,)
    ]
    if left_out:
        titles = "; ".join(left_out)
        yield f"{block.title}: defined for classes alone, and left out: {titles}."


def _figures(
    stem: str, diagnostics: _BlockDiagnostics, panels: Sequence[Panel]
) -> Iterator[PageFigure]:
    def figure(
        slug: str, title: str, reading: str, draw: Callable[[], Figure | None], code: str = ""
    ) -> PageFigure:
        caption = f"{reading} {diagnostics.remark}".strip()
        key = f"{diagnostics.key}-{code}"
        name, chapter = f"{stem}-{slug}", chapter_of(slug).title
        return PageFigure(name, title, caption, draw, key, diagnostics.block.title, chapter)

    split = "Test" if diagnostics.block.protocol == "paper" else "Validation"
    yield figure(
        "curves",
        "Learning curves",
        f"{split} {diagnostics.block.metric.label} after each epoch; mean over seeds, with a band "
        "of ± one standard deviation for several seeds.",
        diagnostics.draw_curves,
    )
    task = diagnostics.block.task
    for panel in (shown for panel in panels if (shown := panel.for_task(task)) is not None):
        if diagnostics.exist or not panel.needs_diagnostics:
            draw = partial(diagnostics.draw, panel.draw)
            yield figure(panel.slug, panel.title, panel.reading, draw, panel.component.code)
