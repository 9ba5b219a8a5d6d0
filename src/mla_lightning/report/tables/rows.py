"""Rows, titles and legends that several tables share: scores, the paper's numbers, comparisons."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mla_lightning.report.document.table import (
    BEST,
    BLANK,
    Cell,
    Row,
    p_text,
    ranks,
    signed,
    summary_cell,
)
from mla_lightning.report.read.block import Block, Summary
from mla_lightning.report.read.metrics import MetricDisplay
from mla_lightning.report.read.paper import PaperTable
from mla_lightning.report.read.significance import CONFIDENCE, SIGNIFICANT, Comparison, holm
from mla_lightning.report.read.variant import REFERENCE, REFERENCES, Variant, method_label
from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL, PRIMARY, REGRESSION

COMPARISON_COLUMNS = ("difference", f"{CONFIDENCE:.0%} interval", "p", "p corrected", "seeds")
COMPARISON_NOTE = (
    "Two-sided paired t-test over the common seeds. p corrected: Holm correction within each "
    f"section. {CONFIDENCE:.0%} interval: confidence interval of the mean difference, not "
    f"corrected. Bold: significant (corrected p < {SIGNIFICANT})."
)
MEAN_LEGEND = "Mean ± sample standard deviation over seeds (number of seeds)"
LEGEND = f"{MEAN_LEGEND}. Best in bold, second best underlined."
COLUMN_LEGEND = f"{MEAN_LEGEND}. Best of each column in bold, second best underlined."
PARTIAL_LEGEND = "(n of N): only n of N seeds have a result; such entries are not ranked."


def shared_metric(table_blocks: Collection[Block]) -> MetricDisplay | None:
    """Return the metric by which all blocks of a table are compared; None if they differ."""
    metrics = {block.metric.name: block.metric for block in table_blocks}
    return next(iter(metrics.values())) if len(metrics) == 1 else None


def score_title(
    table_blocks: Collection[Block], before: str, after: str = "", *, is_difference: bool = False
) -> str:
    """Return the title of a table of scores or of differences, with metric, unit and direction.

    Args:
        table_blocks: The blocks of the table.
        before: The words before the name of the metric, such as ``Test``.
        after: The words after it, such as `` (multi)``.
        is_difference: Whether the table shows differences.
    """
    metric = shared_metric(table_blocks)
    if metric is None:
        return f"{before} scores{after}, each data set by its own metric"
    return f"{before} {metric.label}{after}{_unit(metric, is_difference)}"


def section_title(
    block: Block, table_blocks: Collection[Block], *, is_difference: bool = False
) -> str:
    """Return the title of a block's section, with its metric if those of the table differ.

    Args:
        block: The block.
        table_blocks: All blocks of the table.
        is_difference: Whether the table shows differences.
    """
    if shared_metric(table_blocks) is not None:
        return block.title
    return f"{block.title}: {block.metric.label}{_unit(block.metric, is_difference)}"


def _unit(metric: MetricDisplay, is_difference: bool) -> str:
    return metric.difference_unit if is_difference else metric.unit


def reference_legend(
    methods: Collection[str] = (REFERENCE,), tasks: Collection[str] = (CLASSIFICATION,)
) -> str:
    """Return the sentences that explain the references of a table.

    Args:
        methods: The methods of the table.
        tasks: The tasks of its data sets.

    Example:
        >>> reference_legend()
        'Unimodal: each modality trained alone; a reference, not ranked.'
        >>> reference_legend({"mla", "majority"})
        'Majority: the most frequent class of train; a reference, not ranked.'
        >>> reference_legend({"majority"}, {"regression"})
        'Constant: the median of train; a reference, not ranked.'
    """
    sentences: dict[str, None] = {}
    for name, by_task in _REFERENCE_MEANINGS.items():
        for task in sorted(tasks) if name in methods else ():
            meaning = by_task[task or CLASSIFICATION]
            label = method_label(name, task)
            sentences[f"{label}: {meaning}; a reference, not ranked."] = None
    return " ".join(sentences)


#: Reference -> task -> what it is.
_REFERENCE_MEANINGS = {
    REFERENCE: dict.fromkeys(PRIMARY, "each modality trained alone"),
    "logistic": {
        CLASSIFICATION: "logistic regression without a network",
        REGRESSION: "ridge regression without a network",
        MULTILABEL: "a logistic regression of each label, without a network",
    },
    "majority": {
        CLASSIFICATION: "the most frequent class of train",
        REGRESSION: "the median of train",
        MULTILABEL: "the labels that more than half of train have",
    },
}


def summary_row(
    label: str,
    columns: Sequence[Variant],
    summaries: Sequence[Summary],
    *,
    digits: int = 1,
    is_ranked: bool = True,
    lower_is_better: bool = False,
    with_spread: bool = True,
    expected: Collection[Variant] | None = None,
) -> Row:
    """Format one measure of all columns.

    Args:
        label: The row's label.
        columns: The columns.
        summaries: The measure of each column.
        digits: Number of decimals.
        is_ranked: Whether best and second best are marked, among the columns with all seeds; the
            references are never ranked.
        lower_is_better: Whether the smallest is the best.
        with_spread: Whether standard deviation and number of seeds are shown.
        expected: Columns that show their state where they have no value; the others, by default
            all, stay blank.

    Returns:
        The row.

    Example:
        >>> columns = (Variant("concat"), Variant("mla"))
        >>> summaries = (Summary({0: 60.0}, (0,)), Summary({0: 61.0}, (0,)))
        >>> [(c.text, c.rank) for c in summary_row("multi", columns, summaries).cells]
        [('60.0 (1)', 2), ('61.0 (1)', 1)]
    """
    ranked = [
        s.mean if is_ranked and s.is_complete and column.method not in REFERENCES else None
        for column, s in zip(columns, summaries, strict=True)
    ]
    row_ranks = ranks(ranked, digits, lower_is_better=lower_is_better)
    cells = [
        summary_cell(s, digits, rank, with_spread=with_spread)
        if s.num or column in (expected or ())
        else Cell(BLANK)
        for column, s, rank in zip(columns, summaries, row_ranks, strict=True)
    ]
    return Row(label, tuple(cells))


def score_row(
    block: Block,
    columns: Sequence[Variant],
    modality: str,
    *,
    split: str = "test",
    always: Collection[Variant] = (),
) -> Row:
    """Format one modality's score in all columns, by the metric of the block.

    Args:
        block: The block.
        columns: The columns; the block need not have them all.
        modality: The modality or ``multi``.
        split: ``val`` or ``test``.
        always: Columns that show ``missing`` where the block has no run of them.

    Returns:
        The row.
    """
    summaries = [block.summary(column, modality, split=split) for column in columns]
    expected = [column for column in columns if column in block.runs_by_variant or column in always]
    return summary_row(
        modality,
        columns,
        summaries,
        digits=block.metric.digits,
        lower_is_better=block.metric.lower_is_better,
        expected=expected,
    )


def paper_row(paper: PaperTable, dataset: str, modality: str, columns: Sequence[str]) -> Row | None:
    """Format the paper's numbers of one modality.

    Args:
        paper: The paper's table.
        dataset: The data set.
        modality: The modality or ``multi``.
        columns: The paper's names of the columns, empty where it has no such column.

    Returns:
        The row, or None where the paper has no number.
    """
    values = [paper.get(dataset, modality, column) for column in columns]
    return published_row(modality, values)


def published_row(modality: str, values: Sequence[float | None]) -> Row | None:
    """Format published accuracies, ranked among themselves.

    Args:
        modality: The modality or ``multi``.
        values: Accuracies in percent, None where there is none.

    Returns:
        The row, or None where all are None.

    Example:
        >>> row = published_row("multi", [66.32, None, 79.7])
        >>> row.label, [cell.text for cell in row.cells]
        ('multi (paper)', ['66.32', '–', '79.70'])
    """
    if all(value is None for value in values):
        return None
    cells = tuple(
        Cell(BLANK if value is None else f"{value:.2f}", rank, is_quiet=True)
        for value, rank in zip(values, ranks(values, 2), strict=True)
    )
    return Row(f"{modality} (paper)", cells, is_quiet=True)


def comparison_rows(
    pairs: Sequence[tuple[str, Comparison]],
    digits: int = 1,
    corrected: Sequence[float | None] | None = None,
) -> tuple[Row, ...]:
    """Format comparisons, with Holm correction over all of them.

    Args:
        pairs: Label and comparison.
        digits: Number of decimals.
        corrected: Corrected p-values of a larger family; by default of these comparisons.

    Returns:
        Rows for :data:`COMPARISON_COLUMNS`.

    Example:
        >>> comparison = Comparison((0, 1, 2), mean=9.0, sd=1.0, low=6.5, high=11.5, p=0.004)
        >>> (row,) = comparison_rows([("MLA", comparison)])
        >>> [cell.text for cell in row.cells]
        ['+9.0', '+6.5 to +11.5', '0.004', '0.004', '3']
    """
    if corrected is None:
        corrected = holm([comparison.p for _, comparison in pairs])
    rows = []
    for (label, comparison), p in zip(pairs, corrected, strict=True):
        interval = BLANK
        if comparison.low is not None:
            ends = (signed(comparison.low, digits), signed(comparison.high, digits))
            interval = " to ".join(ends)
        elif comparison.sd == 0:
            interval = "zero variance"
        is_significant = p is not None and p < SIGNIFICANT
        texts = (interval, p_text(comparison.p), p_text(p), str(len(comparison.seeds)))
        difference = Cell(signed(comparison.mean, digits), BEST if is_significant else 0)
        rows.append(Row(label, (difference, *map(Cell, texts))))
    return tuple(rows)


def difference_cell(block: Block, comparison: Comparison) -> Cell:
    """Format a mean difference with its standard deviation and number of seeds.

    Args:
        block: The block, which has the expected seeds.
        comparison: The differences.

    Returns:
        A cell such as ``+1.2 ± 0.3 (3)``; blank without a common seed.
    """
    if comparison.mean is None:
        return Cell(BLANK)
    digits = block.metric.digits
    spread = "" if comparison.sd is None else f" ± {comparison.sd:.{digits}f}"
    num, expected = len(comparison.seeds), len(block.seeds)
    counted = num if num == expected else f"{num} of {expected}"
    return Cell(f"{signed(comparison.mean, digits)}{spread} ({counted})")


def not_run(dataset: str, table: str) -> str:
    """Return the remark on a data set of the paper without runs, with the commands to run it.

    Args:
        dataset: The data set.
        table: ``table1`` or ``table3``.

    Example:
        >>> not_run("cremad", "table1")
        'not run: mla data prepare cremad raw=DIR, then make reproduce-table1 DATA=cremad'
    """
    prepare = f"mla data prepare {dataset} raw=DIR"
    return f"not run: {prepare}, then make reproduce-{table} DATA={dataset}"


def is_partial(table_blocks: Collection[Block], *, split: str = "test") -> bool:
    """Return whether a variant has results of some seeds only.

    Args:
        table_blocks: The blocks of a table.
        split: ``val`` or ``test``.
    """
    summaries = [block.summary(v, split=split) for block in table_blocks for v in block.variants]
    return any(s.num and not s.is_complete for s in summaries)
