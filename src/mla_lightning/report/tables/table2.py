"""Table 2: methods by the share of missing modalities, beside the paper's numbers."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from mla_lightning.errors import RunError
from mla_lightning.report.document.table import (
    BLANK,
    Cell,
    Report,
    Row,
    Section,
    Table,
    ranks,
    summary_cell,
)
from mla_lightning.report.figures.style import COLOURS, GID, new_figure, style
from mla_lightning.report.read.block import Block, Summary, blocks
from mla_lightning.report.read.paper import read_table2
from mla_lightning.report.read.run import Run
from mla_lightning.report.read.variant import Variant, method_label
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.rows import LEGEND

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATE = "missing.rate"
#: The paper's order.
METHODS = (
    *("late_fusion", "qmf", "cca", "dcca", "dccae", "ae", "cra", "mmin", "if_mmin", "cpm_net"),
    *("tate", "mla"),
)
MEASURES = (
    ("", "Test accuracy in percent, by missing rate", "accuracy_percent"),
    ("recall", "Macro recall (unweighted accuracy) in percent", "macro_recall_percent"),
    ("f1", "Weighted F1 in percent", "weighted_f1_percent"),
)
LINES = ("-", "--")


@dataclass(frozen=True, order=True)
class Rate:
    """A missing rate as it was asked for.

    Attributes:
        value: Share of missing cells; infinite where each modality has a rate of its own.
        asked: The setting.
    """

    value: float
    asked: str

    @classmethod
    def of(cls, asked: str) -> Rate:
        """Read ``missing.rate``."""
        return cls(math.inf if asked.startswith("{") else float(asked), asked)

    @property
    def title(self) -> str:
        """Name the column: ``30 %``, or ``pix 50 %, fou 10 %``."""
        if self.value < math.inf:
            return f"{100 * self.value:g} %"
        return ", ".join(f"{m} {100 * rate:g} %" for m, rate in json.loads(self.asked).items())


#: Method, and what else differs -> rate -> column.
Grid = dict[Variant, dict[Rate, Variant]]


def table2(runs: Sequence[Run]) -> Report:
    """Make Table 2.

    Args:
        runs: Runs of any methods with ``missing.rate``.

    Returns:
        The report.

    Raises:
        RunError: If no run has a missing rate, runs of a rate had different masks, or a cell was
            run twice.
    """
    found = [(block, grid) for block in blocks(runs) if (grid := _grid(block))]
    if not found:
        raise RunError(
            "Table 2 needs runs with missing modalities; there is none. Train them: "
            "mla train -m experiment=table2/mfeat"
        )
    for block, grid in found:
        _check_masks(block, grid)
    only = [block for block, _ in found]
    tables = [_measure(found, *which) for which in MEASURES]
    return Report(
        kind="table2",
        title="Table 2: missing modalities",
        warnings=notes.warnings(only),
        tables=(*tables, _paper(), _patterns(found)),
        notes=tuple(note for block in only for note in notes.about(block)),
        reading="Mean over seeds, band of ± one standard deviation; right: the paper's numbers.",
        figures={
            f"table2-{block.slug}": partial(rate_figure, block, grid)
            for block, grid in found
            if any(rate.value < math.inf for rate in _rates(grid))
        },
    )


def _grid(block: Block) -> Grid:
    """Sort a block's columns into rows and rates."""
    grid: Grid = {}
    shared = dict(block.common)
    for variant in block.variants:
        own = dict(variant.overrides)
        rate = own.pop(RATE, shared.get(RATE))
        if rate is None or rate == "null":
            continue
        row = replace(variant, overrides=tuple(sorted(own.items())))
        grid.setdefault(row, {})[Rate.of(rate)] = variant
    return {row: grid[row] for row in sorted(grid, key=_place)}


def _place(row: Variant) -> tuple[int, str]:
    place = METHODS.index(row.method) if row.method in METHODS else len(METHODS)
    return place, row.key


def _rates(grid: Grid) -> list[Rate]:
    return sorted({rate for by_rate in grid.values() for rate in by_rate})


def _check_masks(block: Block, grid: Grid) -> None:
    """Refuse to compare methods that saw different masks."""
    seen: dict[tuple[Rate, int], tuple[str, str]] = {}
    for row, by_rate in grid.items():
        for rate, variant in by_rate.items():
            for seed, run in block.cells[variant].items():
                if not run.masks:
                    continue
                other = seen.setdefault((rate, seed), (run.masks, row.label))
                if other[0] != run.masks:
                    raise RunError(
                        f"{block.name}: {row.label} and {other[1]} had different masks at rate "
                        f"{rate.asked}, seed {seed}; they cannot stand in one table. Train them "
                        "with the same missing settings."
                    )


def _measure(found: Sequence[tuple[Block, Grid]], slug: str, title: str, measure: str) -> Table:
    rates = sorted({rate for _, grid in found for rate in _rates(grid)})
    sections = []
    for block, grid in found:
        rows = [_realised(block, grid, rates)]
        columns = {
            rate: {
                row: block.summary(by_rate[rate], measure=measure)
                for row, by_rate in grid.items()
                if rate in by_rate
            }
            for rate in rates
        }
        places = {rate: _places(by_row) for rate, by_row in columns.items()}
        for row in grid:
            cells = tuple(
                summary_cell(columns[rate][row], 1, places[rate][row])
                if row in columns[rate]
                else Cell(BLANK)
                for rate in rates
            )
            rows.append(Row(row.label, cells))
        sections.append(Section(block.title, tuple(rows)))
    return Table(
        slug=slug,
        title=title,
        corner="",
        columns=tuple(rate.title for rate in rates),
        sections=tuple(sections),
        notes=(
            f"{LEGEND} Best and second of each column. Every sample keeps a modality, so of three "
            "no more than 66.7 % can be missing, whatever a column is called.",
        ),
    )


def _places(summaries: Mapping[Variant, Summary]) -> dict[Variant, int]:
    means = [one.mean if one.is_complete else None for one in summaries.values()]
    return dict(zip(summaries, ranks(means, 1), strict=True))


def _realised(block: Block, grid: Grid, rates: Sequence[Rate]) -> Row:
    cells = []
    for rate in rates:
        values = [
            run.missing_percent
            for by_rate in grid.values()
            if rate in by_rate
            for run in block.cells[by_rate[rate]].values()
            if run.missing_percent is not None
        ]
        text = f"{statistics.fmean(values):.1f}" if values else BLANK
        cells.append(Cell(text, is_quiet=True))
    return Row("really missing in the test, %", tuple(cells), is_quiet=True)


def _paper() -> Table:
    sections = []
    paper = read_table2()
    rates = sorted({r for by in paper.values() for of in by.values() for r in of})
    for dataset, by_method in paper.items():
        columns = [[by_method[m].get(rate) for m in by_method] for rate in rates]
        places = [ranks(column, 2) for column in columns]
        rows = []
        for number, method in enumerate(by_method):
            cells = tuple(
                Cell(BLANK if column[number] is None else f"{column[number]:.2f}", place[number])
                for column, place in zip(columns, places, strict=True)
            )
            rows.append(Row(method_label(method), cells))
        sections.append(Section(f"{dataset} (paper)", tuple(rows)))
    return Table(
        slug="paper",
        title="The paper's accuracies in percent",
        corner="",
        columns=tuple(f"{100 * rate:g} %" for rate in rates),
        sections=tuple(sections),
        notes=("Its protocol is not published: see docs/missing.md.",),
    )


def _patterns(found: Sequence[tuple[Block, Grid]]) -> Table:
    """Accuracy by what was there, over all rates and seeds."""
    names: dict[str, None] = {}
    sections = []
    for block, grid in found:
        rows = []
        for row, by_rate in grid.items():
            right: dict[str, float] = {}
            num: dict[str, int] = {}
            for variant in by_rate.values():
                for run in block.cells[variant].values():
                    for pattern, (count, percent) in json.loads(run.patterns or "{}").items():
                        num[pattern] = num.get(pattern, 0) + count
                        right[pattern] = right.get(pattern, 0.0) + count * percent
            rows.append((row.label, {p: right[p] / num[p] for p in num}))
            names |= dict.fromkeys(sorted(num, key=lambda p: (p.count("+"), p)))
        sections.append((block.title, rows))
    return Table(
        slug="patterns",
        title="Test accuracy in percent by what was there, over all rates and seeds",
        corner="",
        columns=tuple(names),
        sections=tuple(
            Section(
                title,
                tuple(
                    Row(label, tuple(Cell(f"{v[n]:.1f}" if n in v else BLANK) for n in names))
                    for label, v in rows
                ),
            )
            for title, rows in sections
        ),
    )


def rate_figure(block: Block, grid: Grid) -> Figure:
    """Draw accuracy over the missing rate, a line per method, and the paper's beside it.

    Rates that differ between modalities have no place on the axis; the table has them.

    Args:
        block: The block.
        grid: Its rows.

    Returns:
        The figure.
    """
    paper = read_table2()
    ((name, by_method),) = paper.items()
    with style():
        figure = new_figure(10.5, 4.2)
        ours, theirs = figure.subplots(1, 2)
        for number, (row, by_rate) in enumerate(grid.items()):
            found = sorted(
                r for r in by_rate if r.value < math.inf and block.summary(by_rate[r]).num
            )
            rates = [100 * rate.value for rate in found]
            summaries = [block.summary(by_rate[rate]) for rate in found]
            means = [one.mean for one in summaries]
            look = _look(row.method if row == Variant(row.method) else "", number)
            ours.plot(rates, means, label=row.label, gid=GID + row.label, **look)
            spread = [one.sd or 0.0 for one in summaries]
            ours.fill_between(
                rates,
                [m - s for m, s in zip(means, spread, strict=True)],
                [m + s for m, s in zip(means, spread, strict=True)],
                color=look["color"],
                alpha=0.12,
                linewidth=0,
                gid=GID + row.label,
            )
        for number, (method, values) in enumerate(by_method.items()):
            look = _look(method, number)
            rates = sorted(values)
            percents = [100 * rate for rate in rates]
            theirs.plot(
                percents, [values[r] for r in rates], gid=GID + method_label(method), **look
            )
        _finish(ours, f"{block.title}: test accuracy, percent, mean ± sd over seeds")
        _finish(theirs, f"{name}, the paper's numbers")
        figure.legend(
            *ours.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False
        )
    return figure


def _look(method: str, number: int) -> dict[str, object]:
    place = METHODS.index(method) if method in METHODS else len(METHODS) + number
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": LINES[place // len(COLOURS) % 2],
        "linewidth": 2.2 if method == "mla" else 1.2,
        "marker": "o",
        "markersize": 3,
    }


def _finish(axis: Axes, title: str) -> None:
    axis.set_title(title, loc="left")
    axis.set_xlabel("missing rate asked for, percent")
    axis.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axis.set_axisbelow(True)
