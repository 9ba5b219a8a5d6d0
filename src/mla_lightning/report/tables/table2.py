"""Table 2: score of every method by missing rate, beside the paper's numbers."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

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
from mla_lightning.report.figures.rates import rate_figure
from mla_lightning.report.read.block import Block, Summary, blocks, slug_of
from mla_lightning.report.read.metrics import MetricDisplay, metrics_of, package_metrics
from mla_lightning.report.read.paper import read_table2
from mla_lightning.report.read.run import Run
from mla_lightning.report.read.variant import Variant, method_label
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.rows import COLUMN_LEGEND, score_title, section_title

RATE = "missing.rate"
#: The methods of the paper's table, in its order.
METHODS = (
    *("late_fusion", "qmf", "cca", "dcca", "dccae", "ae", "cra", "mmin", "if_mmin", "cpm_net"),
    *("tate", "mla"),
)
#: Slug and title of a further table of classification, and the metric that it shows.
FURTHER = (
    ("recall", "Macro recall (unweighted accuracy) in percent", "macro_recall"),
    ("f1", "Weighted F1 in percent", "weighted_f1"),
)
PAPER_READING = " Right: the paper's numbers."


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
    by_rate = _measure_table(grids, "", f"{score_title(table_blocks, 'Test')}, by missing rate")
    is_paper = any(not block.task for block in table_blocks)
    return Report(
        kind="table2",
        title="Table 2: missing modalities",
        warnings=notes.warnings(table_blocks),
        tables=(
            by_rate,
            *_further_tables(grids),
            *((_paper_table(),) if is_paper else ()),
            _patterns_table(grids),
        ),
        notes=tuple(note for block in table_blocks for note in notes.block_notes(block)),
        reading=(
            "Mean over seeds; the method in question and the references have a band of ± one "
            "sample standard deviation."
            f"{PAPER_READING if is_paper else ''}"
        ),
        figures={
            f"table2-{block.slug}": partial(rate_figure, block, drawn)
            for block, grid in grids
            if any((drawn := _drawn(grid)).values())
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


def _drawn(grid: Grid) -> dict[str, dict[float, Variant]]:
    """Return label -> rate -> variant, without rates that differ between modalities."""
    return {
        row.label: {rate.value: by_rate[rate] for rate in sorted(by_rate) if rate.value < math.inf}
        for row, by_rate in grid.items()
    }


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


def _further_tables(grids: Sequence[tuple[Block, Grid]]) -> Iterator[Table]:
    """Yield a table per metric other than that by which runs are compared."""
    classified = [(block, grid) for block, grid in grids if not block.task]
    for slug, title, name in FURTHER if classified else ():
        yield _measure_table(classified, slug, title, package_metrics()[name])
    others = [(block, grid) for block, grid in grids if block.task]
    for name, metric in metrics_of(run for block, _ in others for run in block.runs).items():
        shown = [
            (block, grid)
            for block, grid in others
            if block.task in metric.tasks
            and name != block.metric.name
            and any(block.values(v, measure=metric.column) for v in block.variants)
        ]
        if metric.in_table1 and shown:
            yield _measure_table(shown, slug_of(name), f"Test {metric.label}{metric.unit}", metric)


def _measure_table(
    grids: Sequence[tuple[Block, Grid]], slug: str, title: str, shown: MetricDisplay | None = None
) -> Table:
    """Make the table of a metric, by default the one by which the runs of a block are compared."""
    rates = sorted({rate for _, grid in grids for rate in _rates(grid)})
    table_blocks = [block for block, _ in grids]
    sections = []
    for block, grid in grids:
        metric = shown or block.metric
        summaries = {
            rate: {
                row: block.summary(by_rate[rate], measure=metric.column)
                for row, by_rate in grid.items()
                if rate in by_rate
            }
            for rate in rates
        }
        column_ranks = {rate: _column_ranks(rows, metric) for rate, rows in summaries.items()}
        rows = [_realised_row(block, grid, rates)]
        for row in grid:
            cells = tuple(
                summary_cell(summaries[rate][row], metric.digits, column_ranks[rate][row])
                if row in summaries[rate]
                else Cell(BLANK)
                for rate in rates
            )
            rows.append(Row(row.label, cells))
        name = block.title if shown else section_title(block, table_blocks)
        sections.append(Section(name, tuple(rows)))
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


def _column_ranks(
    summaries: Mapping[Variant, Summary], metric: MetricDisplay
) -> dict[Variant, int]:
    means = [summary.mean if summary.is_complete else None for summary in summaries.values()]
    places = ranks(means, metric.digits, lower_is_better=metric.lower_is_better)
    return dict(zip(summaries, places, strict=True))


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
    """Make the table of scores by present modalities."""
    table_blocks = [block for block, _ in grids]
    patterns: dict[str, None] = {}
    scores: list[tuple[Block, list[tuple[str, dict[str, float]]]]] = []
    for block, grid in grids:
        rows = []
        for row, by_rate in grid.items():
            totals: dict[str, float] = {}
            nums: dict[str, int] = {}
            for variant in by_rate.values():
                for run in block.runs_by_variant[variant].values():
                    for pattern, (num, value) in json.loads(run.patterns or "{}").items():
                        nums[pattern] = nums.get(pattern, 0) + num
                        totals[pattern] = totals.get(pattern, 0.0) + num * value
            rows.append((row.label, {pattern: totals[pattern] / nums[pattern] for pattern in nums}))
            patterns |= dict.fromkeys(sorted(nums, key=lambda p: (p.count("+"), p)))
        scores.append((block, rows))
    sections = [
        Section(
            section_title(block, table_blocks),
            tuple(
                Row(
                    label,
                    tuple(Cell(block.metric.text(of[p]) if p in of else BLANK) for p in patterns),
                )
                for label, of in rows
            ),
        )
        for block, rows in scores
    ]
    title = score_title(table_blocks, "Test")
    return Table(
        slug="patterns",
        title=f"{title} by present modalities, over all rates and seeds",
        corner="",
        columns=tuple(patterns),
        sections=tuple(sections),
    )
