"""Rows that several tables share: accuracies, the paper's numbers, comparisons."""

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
from mla_lightning.report.read.paper import Published
from mla_lightning.report.read.variant import REFERENCE, Variant, method_label
from mla_lightning.report.tables.significance import CONFIDENCE, Comparison, holm

#: Below this corrected p a difference is printed bold.
SIGNIFICANT = 0.05
COMPARISON_COLUMNS = ("difference", f"{CONFIDENCE:.0%} interval", "p", "p corrected", "seeds")
COMPARISON_NOTE = (
    "Paired t-test over the seeds that both have, two-sided; p corrected by Holm over each list; "
    f"intervals not corrected. Bold: corrected p < {SIGNIFICANT}."
)
LEGEND = (
    "Mean ± sample standard deviation over seeds (number of seeds); best bold, second underlined."
)
PARTIAL_LEGEND = "(n of N): some seeds gave no number; such a cell is not ranked."


def reference_legend() -> str:
    """Return the sentence that explains the unimodal reference."""
    label = method_label(REFERENCE)
    return f"{label}: each modality trained alone, the reference; not ranked."


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
    """Write one measure in all columns.

    Args:
        label: The row's label.
        columns: The columns.
        summaries: Their numbers.
        digits: Decimals.
        is_ranked: Whether best and second are marked, among complete competitors.
        lower_is_better: Whether the smallest is the best.
        with_spread: Whether spread and number of seeds are told.
        expected: Columns that tell their state where they have no number; the others, and all by
            default None, stay blank.

    Returns:
        The row.
    """
    competing = [
        s.mean if is_ranked and s.is_complete and column.method != REFERENCE else None
        for column, s in zip(columns, summaries, strict=True)
    ]
    places = ranks(competing, digits, lower_is_better=lower_is_better)
    cells = [
        summary_cell(s, digits, place, with_spread=with_spread)
        if s.num or column in (expected or ())
        else Cell(BLANK)
        for column, s, place in zip(columns, summaries, places, strict=True)
    ]
    return Row(label, tuple(cells))


def accuracy_row(
    block: Block,
    columns: Sequence[Variant],
    modality: str,
    *,
    split: str = "test",
    always: Collection[Variant] = (),
) -> Row:
    """Write one modality's accuracy in all columns.

    Args:
        block: The block.
        columns: The columns; the block need not have them all.
        modality: The modality or ``multi``.
        split: ``val`` or ``test``.
        always: Columns that are called missing where the block has no run of them.

    Returns:
        The row.
    """
    summaries = [block.summary(column, modality, split=split) for column in columns]
    expected = [column for column in columns if column in block.cells or column in always]
    return summary_row(modality, columns, summaries, expected=expected)


def paper_row(paper: Published, dataset: str, modality: str, columns: Sequence[str]) -> Row | None:
    """Write the paper's numbers of one modality.

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
    """Write published numbers, ranked among themselves.

    Args:
        modality: The modality or ``multi``.
        values: Accuracies in percent, None where there is none.

    Returns:
        The row, or None where all are None.
    """
    if all(value is None for value in values):
        return None
    cells = tuple(
        Cell(BLANK if value is None else f"{value:.2f}", place, is_quiet=True)
        for value, place in zip(values, ranks(values, 2), strict=True)
    )
    return Row(f"{modality} (paper)", cells, is_quiet=True)


def comparison_rows(pairs: Sequence[tuple[str, Comparison]]) -> tuple[Row, ...]:
    """Write comparisons, corrected as one family.

    Args:
        pairs: Label and comparison.

    Returns:
        Rows for :data:`COMPARISON_COLUMNS`.
    """
    corrected = holm([comparison.p for _, comparison in pairs])
    rows = []
    for (label, comparison), p in zip(pairs, corrected, strict=True):
        interval = BLANK
        if comparison.low is not None:
            interval = f"{signed(comparison.low)} to {signed(comparison.high)}"
        elif comparison.sd == 0:
            interval = "no spread"
        is_clear = p is not None and p < SIGNIFICANT
        texts = (interval, p_text(comparison.p), p_text(p), str(len(comparison.seeds)))
        difference = Cell(signed(comparison.mean), BEST if is_clear else 0)
        rows.append(Row(label, (difference, *map(Cell, texts))))
    return tuple(rows)


def gap_cell(block: Block, gap: Comparison) -> Cell:
    """Write a mean difference with its spread over seeds.

    Args:
        block: The block, which knows how many seeds there should be.
        gap: The differences.

    Returns:
        ``+1.2 ± 0.3 (3)``, blank without a common seed.
    """
    if gap.mean is None:
        return Cell(BLANK)
    spread = "" if gap.sd is None else f" ± {gap.sd:.1f}"
    num, expected = len(gap.seeds), len(block.seeds)
    return Cell(
        f"{signed(gap.mean)}{spread} ({num if num == expected else f'{num} of {expected}'})"
    )


def not_run(dataset: str, table: str) -> str:
    """Say how to get the numbers of a data set of the paper.

    Args:
        dataset: The data set.
        table: ``table1`` or ``table3``.

    Returns:
        The commands.
    """
    prepare = f"mla data prepare {dataset} raw=DIR"
    return f"not run: {prepare}, then make reproduce-{table} DATA={dataset}"


def is_partial(blocks: Collection[Block], *, split: str = "test") -> bool:
    """Whether some column has numbers of some seeds only.

    Args:
        blocks: The blocks of a table.
        split: ``val`` or ``test``.
    """
    summaries = [block.summary(v, split=split) for block in blocks for v in block.variants]
    return any(s.num and not s.is_complete for s in summaries)
