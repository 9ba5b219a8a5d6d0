"""One page of everything that a folder of runs shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from mla_lightning.errors import RunError
from mla_lightning.report.answer_figures import KINDS
from mla_lightning.report.cells import Block, blocks
from mla_lightning.report.curves import curves_figure, read_curves
from mla_lightning.report.diagnosed import Diagnosed, read_diagnosed
from mla_lightning.report.diagnostic_figures import numbered
from mla_lightning.report.ledger import ledger
from mla_lightning.report.results import MULTI, Run
from mla_lightning.report.table import BLANK, Cell, Report, Row, Section, Table
from mla_lightning.run_folder import PROVENANCE, read_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Maker = Callable[[Sequence[Run]], Report]
NO_DIAGNOSTICS = (
    "No diagnostics: these runs were made with diagnostics=off. Train with diagnostics=epoch to "
    "have them."
)


@dataclass(frozen=True)
class Picture:
    """A figure of the page.

    Attributes:
        stem: Stem of its files.
        title: Heading.
        reading: How to read it, in a sentence.
        draw: Draws it; None where nothing was measured.
    """

    stem: str
    title: str
    reading: str
    draw: Callable[[], Figure | None]


@dataclass(frozen=True)
class Part:
    """One experiment: the report of its kind, and what its runs measured of themselves.

    Attributes:
        name: Name of the experiment.
        report: Its report.
        pictures: Its further figures.
        tables: Its further tables.
        notes: What is not there, and why.
        columns: What a reader can choose among.
    """

    name: str
    report: Report
    pictures: tuple[Picture, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


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


def overview(runs: Sequence[Run], makers: Mapping[str, Maker]) -> Overview:
    """Gather the page.

    Args:
        runs: Any runs.
        makers: Kind of report -> what makes it; an experiment whose name begins with a kind is
            shown as that kind, any other as ``table1``.

    Returns:
        The page's content.

    Raises:
        RunError: If no run tells what it is.
    """
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.name or "runs", []).append(run)
    parts, whats = [], []
    for name, group in sorted(by_name.items()):
        try:
            found = blocks(group)
        except RunError as error:  # one experiment's trouble leaves the others their page
            parts.append(Part(name, ledger(group), (), (), (str(error),)))
            continue
        if not found:
            continue
        report, notes = _report(name, group, makers)
        parts.append(_part(name, report, found, notes))
        whats += [_what(name, block) for block in found]
    if not parts:
        raise RunError("No run tells its data set, method and seed, so there is nothing to show.")
    states = Counter(run.state for run in runs)
    told = ", ".join(f"{count} {state}" for state, count in states.most_common())
    what = Table(
        slug="what",
        title="What was run",
        corner="experiment and data",
        columns=("split", "methods", "seeds", "runs", "code", "data", "commit", "versions"),
        sections=(Section("", tuple(row for row, _ in whats)),),
        notes=tuple(note for _, notes in whats for note in notes),
    )
    return Overview(
        title=f"{len(runs)} runs: {told}",
        what=what,
        parts=tuple(parts),
        runs=ledger(runs),
        commands=tuple(dict.fromkeys(run.retry for run in runs if run.retry)) or _commands(runs),
    )


def _report(
    name: str, group: Sequence[Run], makers: Mapping[str, Maker]
) -> tuple[Report, list[str]]:
    """Make an experiment's report; the plain table, and why, where its own kind refuses it."""
    notes: list[str] = []
    for kind in dict.fromkeys((name.partition("/")[0], "table1")):
        if kind in makers:
            try:
                return makers[kind](group), notes
            except RunError as error:
                notes.append(f"Not shown as {kind}: {error}")
    return ledger(group), notes


def _what(name: str, block: Block) -> tuple[Row, list[str]]:
    runs = block.runs
    states = Counter(run.state for run in runs)
    origin = [
        " / ".join(dict.fromkeys(str(value) for run in runs if (value := getattr(run, key))))
        for key in ("code", "data", "git_commit", "versions")
    ]
    texts = (
        block.data_split or BLANK,
        str(len({variant.label for variant in block.variants})),
        _spans(block.seeds),
        ", ".join(f"{count} {state}" for state, count in states.most_common()),
        *(text or BLANK for text in origin),
    )
    notes: list[str] = []
    differing: dict[str, dict[str, None]] = {}
    for run in runs:
        for key, value in run.overrides:
            differing.setdefault(key, {})[value] = None
    if differing:
        told = ", ".join(f"{key}={' / '.join(values)}" for key, values in differing.items())
        notes.append(f"{name}, {block.title}: {told}.")
    notes += [f"{name}, {block.title}: {text}" for text in _about_data(runs)]
    return Row(f"{name}: {block.title}", tuple(map(Cell, texts))), notes


def _about_data(runs: Sequence[Run]) -> list[str]:
    """Tell what the first run that says so knows of its split."""
    for run in runs:
        if run.path is None or not run.is_finished:
            continue
        about = (read_json(run.path / PROVENANCE) or {}).get("data") or {}
        texts = [str(about["description"])] if about.get("description") else []
        for group, shared in (about.get("overlap") or {}).items():
            texts.append(f"train and test share {shared} values of {group}.")
        return texts
    return []


def _spans(seeds: Sequence[int]) -> str:
    """Write seeds: ``0-9`` or ``0, 2, 5``."""
    ordered = sorted(seeds)
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]}-{ordered[-1]}"
    return ", ".join(map(str, ordered))


def _commands(runs: Sequence[Run]) -> tuple[str, ...]:
    names = dict.fromkeys(run.name for run in runs if "/" in run.name)
    return tuple(f"mla train -m experiment={name}" for name in names)


def _part(name: str, report: Report, found: Sequence[Block], about: Sequence[str]) -> Part:
    pictures: list[Picture] = []
    tables: list[Table] = []
    notes = list(about)
    columns: dict[str, None] = {}
    for block in found:
        stem = f"{name.replace('/', '-')}-{block.slug}"
        curves = read_curves(block, (*block.modalities, MULTI))
        if curves.epochs:
            pictures.append(
                Picture(
                    f"{stem}-curves",
                    "Learning curves",
                    f"{curves.split.capitalize()} accuracy after each epoch, mean over seeds, "
                    "band of ± one standard deviation.",
                    partial(curves_figure, curves, block.title),
                )
            )
        columns |= dict.fromkeys(variant.label for variant in block.variants)
        diagnosed = read_diagnosed(block)
        if not diagnosed.finals:
            notes.append(f"{block.title}: {NO_DIAGNOSTICS}")
        pictures += [
            Picture(f"{stem}-{kind.slug}", kind.title, kind.reading, partial(kind.draw, diagnosed))
            for kind in KINDS
            if diagnosed.finals or kind.slug in ("laziness", "cost")
        ]
        if diagnosed.finals:
            tables += [_calibration(diagnosed, stem), _parameters(diagnosed, stem)]
            notes += [f"{block.title}: {text}" for text in _not_measured(diagnosed)]
    return Part(name, report, tuple(pictures), tuple(tables), tuple(notes), tuple(columns))


def _calibration(found: Diagnosed, stem: str) -> Table:
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
        slug=f"{stem}-calibration",
        title=f"{found.title}: expected calibration error, before and after temperature scaling",
        corner="",
        columns=columns,
        sections=tuple(sections),
        notes=(
            "15 bins of equal width, or of equally many samples; one temperature per modality, "
            "fitted on validation. Means over seeds.",
        ),
    )


def _parameters(found: Diagnosed, stem: str) -> Table:
    parts = (*found.modalities, "fusion", "other")
    rows = []
    for label in found.labels:
        values = [found.mean(label, numbered("parameters", part)) for part in parts]
        known = [value for value in values if value is not None]
        texts = [BLANK if value is None else f"{value:,.0f}" for value in [*values, sum(known)]]
        rows.append(Row(label, tuple(map(Cell, texts))))
    return Table(
        slug=f"{stem}-parameters",
        title=f"{found.title}: parameters",
        corner="",
        columns=(*parts, "sum"),
        sections=(Section("", tuple(rows)),),
        notes=("A modality's are those of its encoder and of its map to a shared head's width.",),
    )


def _not_measured(found: Diagnosed) -> Iterator[str]:
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
