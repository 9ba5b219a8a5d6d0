"""One page of everything that a folder of runs shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

from mla_lightning.errors import RunError
from mla_lightning.report.document.table import BLANK, Cell, Maker, Report, Row, Section, Table
from mla_lightning.report.figures.cache import fingerprint
from mla_lightning.report.figures.curves import curves_figure, curves_of
from mla_lightning.report.figures.panels import Panel
from mla_lightning.report.figures.training import numbered
from mla_lightning.report.read.block import Block, blocks, is_identified, limit_variants, slug_of
from mla_lightning.report.read.diagnostics import BlockDiagnostics, read_diagnostics
from mla_lightning.report.read.run import MULTI, Run
from mla_lightning.report.tables.commands import commands
from mla_lightning.report.tables.run_list import ledger
from mla_lightning.report.tables.what_was_run import what_was_run
from mla_lightning.run_folder import DIAGNOSTICS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Name of the section of runs whose experiment has no name.
UNNAMED = "train"
#: Names of files that are no part's.
RESERVED = ("page", "results", "runs", "what")
NO_DIAGNOSTICS = (
    "No diagnostics: these runs were made with diagnostics=off. Train with diagnostics=epoch to "
    "have them."
)
OF_A_TABLE = "No diagnostics: a table of results does not hold them; give the run folders."
NONE_FINISHED = "No diagnostics: no run of this has finished."


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes:
        stem: Stem of its files.
        title: Heading.
        reading: How to read it, in a sentence.
        draw: Draws it; None where nothing was measured.
        key: Fingerprint of what it shows.
        about: The data set, for those who hear the page.
    """

    stem: str
    title: str
    reading: str
    draw: Callable[[], Figure | None]
    key: str
    about: str


@dataclass(frozen=True)
class Pending:
    """A table that is made from the runs' files when it is needed.

    Attributes:
        stem: Stem of its files.
        key: Fingerprint of what it shows.
        make: Makes it.
    """

    stem: str
    key: str
    make: Callable[[], Table]


@dataclass(frozen=True)
class Part:
    """One experiment: the report of its kind, and what its runs measured of themselves.

    Attributes:
        name: Name of the experiment.
        slug: Beginning of its files' names, which no other part has.
        report: Its report.
        key: Fingerprint of what the report's figures show.
        pictures: Its further figures.
        pending: Its further tables, not made yet.
        notes: What is not there, and why.
        tables: Its further tables.
        warnings: Figures that could not be drawn.
    """

    name: str
    slug: str
    report: Report
    key: str
    pictures: tuple[Picture, ...]
    pending: tuple[Pending, ...]
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Overview:
    """What the page shows.

    Attributes:
        title: Its heading.
        what: What was run.
        parts: One per experiment.
        runs: The ledger, with failures and how to run them again.
        commands: What re-creates everything.
    """

    title: str
    what: Table
    parts: tuple[Part, ...]
    runs: Report
    commands: tuple[str, ...] = field(default=())


def overview(runs: Sequence[Run], makers: Mapping[str, Maker], drawn: Sequence[Panel]) -> Overview:
    """Gather the page.

    Args:
        runs: Any runs.
        makers: Kind of report -> what makes it; an experiment whose name begins with a kind is
            shown as that kind, any other as ``table1``.
        drawn: The figures of every block of runs.

    Returns:
        The page's content.

    Raises:
        RunError: If no run tells what it is.
    """
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        if is_identified(run):
            by_name.setdefault(run.name or UNNAMED, []).append(run)
    if not by_name:
        raise RunError("No run tells its data set, method and seed, so there is nothing to show.")
    parts, found = [], []
    for name, slug in slugs(sorted(by_name)).items():
        part, shown = _part(name, slug, _report(name, by_name[name], makers), by_name[name], drawn)
        parts.append(part)
        found += shown
    states = Counter(run.state for run in runs)
    told = ", ".join(f"{count} {state}" for state, count in states.most_common())
    return Overview(
        title=f"{len(runs)} runs: {told}",
        what=what_was_run(found),
        parts=tuple(parts),
        runs=ledger(runs),
        commands=tuple(commands(runs)),
    )


def slugs(names: Iterable[str]) -> dict[str, str]:
    """Give each part's files a beginning of their own.

    Args:
        names: Names of the parts.

    Returns:
        Name -> beginning, safe in file names and different also where case counts for nothing.
    """
    taken = set(RESERVED)
    found = {}
    for name in names:
        plain = slug_of(*name.split("/"))
        choices = (plain, *(f"{plain}-{number}" for number in range(2, len(taken) + 3)))
        found[name] = next(slug for slug in choices if slug.lower() not in taken)
        taken.add(found[name].lower())
    return found


def _report(name: str, runs: Sequence[Run], makers: Mapping[str, Maker]) -> Report:
    """Make a part's report; where its kind cannot be made, say why above the plain table."""
    kind = name.partition("/")[0]
    try:
        report = makers.get(kind, makers["table1"])(runs)
        if any(table.written_sections for table in report.tables):
            return report
        reason = f"{report.title}: there is nothing to show."
    except RunError as error:
        reason = f"Not shown as {kind}: {error}" if kind in makers else str(error)
    try:
        plain = makers["table1"](runs)
    except RunError:
        plain = ledger(runs)
    return replace(plain, warnings=(reason, *plain.warnings))


class _Measured:
    """What a block's runs measured of themselves; read when the first figure asks for it."""

    def __init__(self, block: Block) -> None:
        self.block, self.remark = limit_variants(block)

    @cached_property
    def key(self) -> str:
        return fingerprint(self.block.runs)

    @property
    def has_diagnostics(self) -> bool:
        folders = [run.path for run in self.block.runs if run.path and run.is_finished]
        return any((folder / DIAGNOSTICS).is_file() for folder in folders)

    @property
    def lack(self) -> str:
        """Say why there are no diagnostics."""
        finished = [run for run in self.block.runs if run.is_finished]
        if not finished:
            return NONE_FINISHED
        return NO_DIAGNOSTICS if any(run.path for run in finished) else OF_A_TABLE

    @cached_property
    def diagnosed(self) -> BlockDiagnostics:
        return read_diagnostics(self.block)

    def curves(self) -> Figure | None:
        curves = curves_of(self.diagnosed, (*self.block.modalities, MULTI))
        return curves_figure(curves, self.block.title) if curves.epochs else None


def _part(
    name: str, slug: str, report: Report, runs: Sequence[Run], drawn: Sequence[Panel]
) -> tuple[Part, list[tuple[str, Block]]]:
    pictures: list[Picture] = []
    pending: list[Pending] = []
    notes: list[str] = []
    shown = []
    try:
        shown = [(name, block) for block in blocks(runs)]
    except RunError as error:
        notes.append(f"{name}: no curves and diagnostics. {error}")
    for _, block in shown:
        measured = _Measured(block)
        stem = f"{slug}-{block.slug}"
        pictures += _pictures(stem, measured, drawn)
        if measured.has_diagnostics:
            for what, table in (("calibration", _calibration), ("parameters", _parameters)):
                name_of_table = f"{stem}-{what}"
                make = partial(_made, table, measured, name_of_table)
                pending.append(Pending(name_of_table, measured.key, make))
        else:
            notes.append(f"{block.title}: {measured.lack}")
    figures = {
        f"{slug}-{stem.removeprefix(f'{report.kind}-')}": draw
        for stem, draw in report.figures.items()
    }
    part = Part(
        name,
        slug,
        replace(report, figures=figures),
        fingerprint(runs),
        tuple(pictures),
        tuple(pending),
        tuple(dict.fromkeys(notes)),
    )
    return part, shown


def _pictures(stem: str, measured: _Measured, drawn: Sequence[Panel]) -> list[Picture]:
    def picture(
        slug: str, title: str, reading: str, draw: Callable[[], Figure | None], code: str = ""
    ) -> Picture:
        caption = f"{reading} {measured.remark}".strip()
        key = f"{measured.key}-{code}"
        return Picture(f"{stem}-{slug}", title, caption, draw, key, measured.block.title)

    split = "Test" if measured.block.protocol == "paper" else "Validation"
    curves = picture(
        "curves",
        "Learning curves",
        f"{split} accuracy after each epoch: mean over seeds and, of several, a band of ± one "
        "standard deviation.",
        measured.curves,
    )
    return [
        curves,
        *(
            picture(
                panel.slug,
                panel.title,
                panel.reading,
                partial(_drawn, panel.draw, measured),
                panel.component.code,
            )
            for panel in drawn
            if measured.has_diagnostics or not panel.needs_diagnostics
        ),
    ]


def _drawn(draw: Callable[[BlockDiagnostics], Figure | None], measured: _Measured) -> Figure | None:
    return draw(measured.diagnosed)


def _made(make: Callable[[BlockDiagnostics, str], Table], measured: _Measured, slug: str) -> Table:
    return make(measured.diagnosed, slug)


def _calibration(found: BlockDiagnostics, slug: str) -> Table:
    columns = ("temperature", "width", "width after", "mass", "mass after")
    paths = (
        ("temperature",),
        *((when, bins, "ece") for bins in ("width", "mass") for when in ("before", "after")),
    )
    sections = []
    for name in (*found.modalities, MULTI):
        rows = []
        for label in found.labels:
            values = [found.mean(label, numbered("calibration", name, *path)) for path in paths]
            cells = [Cell(BLANK if value is None else f"{value:.3f}") for value in values]
            rows.append(Row(label, tuple(cells)))
        sections.append(Section(name, tuple(rows)))
    return Table(
        slug=slug,
        title=f"{found.title}: expected calibration error, before and after temperature scaling",
        corner="",
        columns=columns,
        sections=tuple(sections),
        notes=(
            "15 bins of equal width, or of equally many samples; one temperature per modality, "
            "fitted on validation. Means over seeds.",
        ),
    )


def _parameters(found: BlockDiagnostics, slug: str) -> Table:
    parts = (*found.modalities, "fusion", "other")
    rows = []
    for label in found.labels:
        values = [found.mean(label, numbered("parameters", part)) for part in parts]
        known = [value for value in values if value is not None]
        texts = [BLANK if value is None else f"{value:,.0f}" for value in [*values, sum(known)]]
        rows.append(Row(label, tuple(map(Cell, texts))))
    about = "A modality's are those of its encoder and of its map to a shared head's width."
    return Table(
        slug=slug,
        title=f"{found.title}: parameters",
        corner="",
        columns=(*parts, "sum"),
        sections=(Section("", tuple(rows)),),
        notes=(about, *_not_measured(found)),
    )


def _not_measured(found: BlockDiagnostics) -> Iterator[str]:
    """Tell what the figures leave out, and why."""
    for label, seeds in found.finals.items():
        widths = seeds[0].get("widths") or {}
        if len(set(widths.values())) > 1:
            told = ", ".join(f"{name} {width}" for name, width in widths.items())
            yield (
                f"{label}: no modality gap and no planes between features of different widths "
                f"({told}), which no shared head brings to one."
            )
    left_out = {
        name
        for seeds in found.finals.values()
        for one in seeds
        for name in one.get("uncounted", ())
    }
    if left_out:
        yield f"FLOPs leave out {', '.join(sorted(left_out))}, and element-wise work and sums."
