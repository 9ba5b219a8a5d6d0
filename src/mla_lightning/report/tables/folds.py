"""Table 1 over several splits of one data set, such as the folds of a cross-validation."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from mla_lightning.report.document.table import Row, Section, Table
from mla_lightning.report.read.block import Block, Summary
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.variant import Variant
from mla_lightning.report.tables.rows import score_title, summary_row

LEGEND = (
    "Mean over splits of the mean over seeds ± sample standard deviation over splits (number of "
    "splits). Best in bold, second best underlined, among methods with all splits. The splits "
    "share training samples, so their spread is no standard error, and no test is made."
)


def mean_over_splits(table_blocks: Sequence[Block]) -> Table | None:
    """Return the table of the means over the splits of each data set.

    Args:
        table_blocks: The blocks of Table 1.

    Returns:
        A section per data set and protocol with at least two splits; None if there is none.
    """
    groups: dict[tuple[str, ...], list[Block]] = {}
    for block in table_blocks:
        groups.setdefault((block.dataset, block.protocol, block.task), []).append(block)
    chosen = {key: members for key, members in groups.items() if len(members) > 1}
    if not chosen:
        return None
    every = [block for members in chosen.values() for block in members]
    columns = sorted({v for block in every for v in block.variants}, key=lambda v: v.sort_key)
    return Table(
        slug="splits",
        title=score_title(every, "Test", " over the splits of a data set"),
        corner="",
        columns=tuple(variant.label for variant in columns),
        sections=tuple(_section(members, columns) for members in chosen.values()),
        notes=(LEGEND,),
    )


def _section(members: Sequence[Block], columns: Sequence[Variant]) -> Section:
    first = members[0]
    modalities = dict.fromkeys(name for block in members for name in block.modalities)
    rows = tuple(_row(members, columns, name) for name in (*modalities, MULTI))
    suffix = " (epoch selected on TEST)" if first.is_selected_on_test else ""
    return Section(f"{first.dataset}, {len(members)} splits{suffix}", rows)


def _row(members: Sequence[Block], columns: Sequence[Variant], modality: str) -> Row:
    metric = members[0].metric
    return summary_row(
        modality,
        columns,
        [_over_splits(members, column, modality) for column in columns],
        digits=metric.digits,
        lower_is_better=metric.lower_is_better,
    )


def _over_splits(members: Sequence[Block], column: Variant, modality: str) -> Summary:
    """Return the mean over seeds by split; a split counts if it has all seeds."""
    values = {}
    for number, block in enumerate(members):
        summary = block.summary(column, modality)
        if summary.is_complete:
            values[number] = statistics.fmean(summary.values.values())
    states = {"missing": len(members) - len(values)} if len(values) < len(members) else {}
    return Summary(values, tuple(range(len(members))), states)
