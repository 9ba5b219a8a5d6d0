"""Table 2: accuracy of every method by missing rate, beside the paper's numbers."""

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
from mla_lightning.report.tables.rows import COLUMN_LEGEND

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATE = "missing.rate"
#: The methods of the paper's table, in its order.
METHODS = (
    *("late_fusion", "qmf", "cca", "dcca", "dccae", "ae", "cra", "mmin", "if_mmin", "cpm_net"),
    *("tate", "mla"),
)
#: Slug and title of a table, and the measure that it shows.
MEASURES = (
    ("", "Test accuracy in percent, by missing rate", "accuracy_percent"),
    ("recall", "Macro recall (unweighted accuracy) in percent", "macro_recall_percent"),
    ("f1", "Weighted F1 in percent", "weighted_f1_percent"),
)
LINE_STYLES = ("-", "--")


@dataclass(frozen=True, order=True)
class Rate:
    """A nominal missing rate.

    Attributes:
        value: The rate as a fraction; infinite where each modality has a rate of its own.
        setting: The value of ``missing.rate``.

    Example:
        >>> Rate.parse("0.3").title, Rate.parse('{"image": 0.5, "text": 0.1}').title
        ('30 %', 'image 50 %, text 10 %')
    """

    value: float
    setting: str

    @classmethod
    def parse(cls, setting: str) -> Rate:
        """Parse a value of ``missing.rate``: a number, or a JSON object of rates by modality."""
        return cls(math.inf if setting.startswith("{") else float(setting), setting)

    @property
    def title(self) -> str:
        """Header of the rate's column."""
        if self.value < math.inf:
            return f"{100 * self.value:g} %"
        return ", ".join(f"{m} {100 * rate:g} %" for m, rate in json.loads(self.setting).items())


#: Row (a variant without its missing rate) -> rate -> variant.
Grid = dict[Variant, dict[Rate, Variant]]


def table2(runs: Sequence[Run]) -> Report:
    """Make Table 2.

    Args:
        runs: Runs of any methods with ``missing.rate``.

    Returns:
        The report.

    Raises:
        RunError: If no run has a missing rate, if runs of one rate and seed have different masks,
            or if two runs of one variant and seed conflict.
    """
    grids = [(block, grid) for block in blocks(runs) if (grid := _grid(block))]
    if not grids:
        raise RunError(
            "Table 2 needs runs with missing modalities; there is none. Train them: "
            "mla train -m experiment=table2/mfeat"
        )
    for block, grid in grids:
        _check_masks(block, grid)
    table_blocks = [block for block, _ in grids]
    tables = [_measure_table(grids, *measure) for measure in MEASURES]
    return Report(
        kind="table2",
        title="Table 2: missing modalities",
        warnings=notes.warnings(table_blocks),
        tables=(*tables, _paper_table(), _patterns_table(grids)),
        notes=tuple(note for block in table_blocks for note in notes.block_notes(block)),
        reading=(
            "Mean over seeds, with a band of ± one sample standard deviation. Right: the paper's "
            "numbers."
        ),
        figures={
            f"table2-{block.slug}": partial(rate_figure, block, grid)
            for block, grid in grids
            if any(rate.value < math.inf for rate in _rates(grid))
        },
    )


def _grid(block: Block) -> Grid:
    """Group a block's variants by row and missing rate."""
    grid: Grid = {}
    common = dict(block.common)
    for variant in block.variants:
        overrides = dict(variant.overrides)
        setting = overrides.pop(RATE, common.get(RATE))
        if setting is None or setting == "null":
            continue
        row = replace(variant, overrides=tuple(sorted(overrides.items())))
        grid.setdefault(row, {})[Rate.parse(setting)] = variant
    return {row: grid[row] for row in sorted(grid, key=_sort_key)}


def _sort_key(row: Variant) -> tuple[int, str]:
    position = METHODS.index(row.method) if row.method in METHODS else len(METHODS)
    return position, row.key


def _rates(grid: Grid) -> list[Rate]:
    return sorted({rate for by_rate in grid.values() for rate in by_rate})


def _check_masks(block: Block, grid: Grid) -> None:
    """Raise an error if methods were run with different masks at the same rate and seed."""
    masks_of: dict[tuple[Rate, int], tuple[str, str]] = {}
    for row, by_rate in grid.items():
        for rate, variant in by_rate.items():
            for seed, run in block.runs_by_variant[variant].items():
                if not run.masks:
                    continue
                masks, label = masks_of.setdefault((rate, seed), (run.masks, row.label))
                if masks != run.masks:
                    raise RunError(
                        f"{block.name}: {row.label} and {label} had different masks at rate "
                        f"{rate.setting}, seed {seed}, so they cannot be compared in one table. "
                        "Train them with the same missing settings."
                    )


def _measure_table(
    grids: Sequence[tuple[Block, Grid]], slug: str, title: str, measure: str
) -> Table:
    rates = sorted({rate for _, grid in grids for rate in _rates(grid)})
    sections = []
    for block, grid in grids:
        summaries = {
            rate: {
                row: block.summary(by_rate[rate], measure=measure)
                for row, by_rate in grid.items()
                if rate in by_rate
            }
            for rate in rates
        }
        column_ranks = {rate: _column_ranks(by_row) for rate, by_row in summaries.items()}
        rows = [_realised_row(block, grid, rates)]
        for row in grid:
            cells = tuple(
                summary_cell(summaries[rate][row], 1, column_ranks[rate][row])
                if row in summaries[rate]
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
            f"{COLUMN_LEGEND} Columns: nominal missing rates. Every sample keeps at least one "
            "modality, so with three modalities at most 66.7 % can be missing, also at higher "
            "nominal rates.",
        ),
    )


def _column_ranks(summaries: Mapping[Variant, Summary]) -> dict[Variant, int]:
    means = [summary.mean if summary.is_complete else None for summary in summaries.values()]
    return dict(zip(summaries, ranks(means, 1), strict=True))


def _realised_row(block: Block, grid: Grid, rates: Sequence[Rate]) -> Row:
    cells = []
    for rate in rates:
        values = [
            run.missing_percent
            for by_rate in grid.values()
            if rate in by_rate
            for run in block.runs_by_variant[by_rate[rate]].values()
            if run.missing_percent is not None
        ]
        text = f"{statistics.fmean(values):.1f}" if values else BLANK
        cells.append(Cell(text, is_quiet=True))
    return Row("realised missing rate, test, %", tuple(cells), is_quiet=True)


def _paper_table() -> Table:
    sections = []
    paper = read_table2()
    rates = sorted({rate for methods in paper.values() for m in methods.values() for rate in m})
    for dataset, by_method in paper.items():
        columns = [[by_method[m].get(rate) for m in by_method] for rate in rates]
        column_ranks = [ranks(column, 2) for column in columns]
        rows = []
        for i, method in enumerate(by_method):
            cells = tuple(
                Cell(BLANK if column[i] is None else f"{column[i]:.2f}", rank[i])
                for column, rank in zip(columns, column_ranks, strict=True)
            )
            rows.append(Row(method_label(method), cells))
        sections.append(Section(f"{dataset} (paper)", tuple(rows)))
    return Table(
        slug="paper",
        title="The paper's accuracies in percent",
        corner="",
        columns=tuple(f"{100 * rate:g} %" for rate in rates),
        sections=tuple(sections),
        notes=("The paper does not state its protocol: see docs/missing.md.",),
    )


def _patterns_table(grids: Sequence[tuple[Block, Grid]]) -> Table:
    """Make the table of accuracy by present modalities."""
    patterns: dict[str, None] = {}
    accuracies: list[tuple[str, list[tuple[str, dict[str, float]]]]] = []
    for block, grid in grids:
        rows = []
        for row, by_rate in grid.items():
            totals: dict[str, float] = {}
            nums: dict[str, int] = {}
            for variant in by_rate.values():
                for run in block.runs_by_variant[variant].values():
                    for pattern, (num, percent) in json.loads(run.patterns or "{}").items():
                        nums[pattern] = nums.get(pattern, 0) + num
                        totals[pattern] = totals.get(pattern, 0.0) + num * percent
            rows.append((row.label, {pattern: totals[pattern] / nums[pattern] for pattern in nums}))
            patterns |= dict.fromkeys(sorted(nums, key=lambda p: (p.count("+"), p)))
        accuracies.append((block.title, rows))
    sections = [
        Section(
            title,
            tuple(
                Row(label, tuple(Cell(f"{of[p]:.1f}" if p in of else BLANK) for p in patterns))
                for label, of in rows
            ),
        )
        for title, rows in accuracies
    ]
    return Table(
        slug="patterns",
        title="Test accuracy in percent by present modalities, over all rates and seeds",
        corner="",
        columns=tuple(patterns),
        sections=tuple(sections),
    )


def rate_figure(block: Block, grid: Grid) -> Figure:
    """Draw accuracy over missing rate, one line per method, beside the paper's numbers.

    Rates that differ between modalities are left out.

    Args:
        block: The block.
        grid: Its variants by row and rate.

    Returns:
        The figure.
    """
    paper = read_table2()
    ((dataset, by_method),) = paper.items()
    with style():
        figure = new_figure(10.5, 4.2)
        ours, theirs = figure.subplots(1, 2)
        for number, (row, by_rate) in enumerate(grid.items()):
            drawn = sorted(
                r for r in by_rate if r.value < math.inf and block.summary(by_rate[r]).num
            )
            percents = [100 * rate.value for rate in drawn]
            summaries = [block.summary(by_rate[rate]) for rate in drawn]
            means = [summary.mean for summary in summaries]
            line = _line_style(row.method if row == Variant(row.method) else "", number)
            ours.plot(percents, means, label=row.label, gid=GID + row.label, **line)
            ours.fill_between(
                percents,
                [summary.mean - (summary.sd or 0.0) for summary in summaries],
                [summary.mean + (summary.sd or 0.0) for summary in summaries],
                color=line["color"],
                alpha=0.12,
                linewidth=0,
                gid=GID + row.label,
            )
        for number, (method, values) in enumerate(by_method.items()):
            line = _line_style(method, number)
            rates = sorted(values)
            accuracies = [values[rate] for rate in rates]
            percents = [100 * rate for rate in rates]
            theirs.plot(percents, accuracies, gid=GID + method_label(method), **line)
        _finish(ours, f"{block.title}: test accuracy, percent, mean ± sd over seeds")
        _finish(theirs, f"{dataset}, the paper's numbers")
        figure.legend(
            *ours.get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False
        )
    return figure


def _line_style(method: str, number: int) -> dict[str, object]:
    position = METHODS.index(method) if method in METHODS else len(METHODS) + number
    return {
        "color": COLOURS[position % len(COLOURS)],
        "linestyle": LINE_STYLES[position // len(COLOURS) % 2],
        "linewidth": 2.2 if method == "mla" else 1.2,
        "marker": "o",
        "markersize": 3,
    }


def _finish(axis: Axes, title: str) -> None:
    axis.set_title(title, loc="left")
    axis.set_xlabel("nominal missing rate, percent")
    axis.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axis.set_axisbelow(True)
