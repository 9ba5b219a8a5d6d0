"""What stands beside the scores of the benchmark: single modalities, simple models, measures."""

from __future__ import annotations

from collections.abc import Sequence

from mla_lightning.report.document.table import BLANK, Cell, Row, Section, Table
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.variant import REFERENCE, Variant
from mla_lightning.report.tables.asked import contenders

#: A data set is dominated by a modality that is this many times as accurate as the weakest one.
DOMINANT = 2.0
#: Column -> measure of the fused predictions, and decimals.
MEASURES = {
    "macro F1": ("macro_f1_percent", 1),
    "ECE": ("ece", 3),
    "memory (MiB)": ("peak_memory_mb", 0),
}


def strengths(block: Block) -> dict[str, float]:
    """Return modality -> mean test score when trained alone; empty without such runs.

    Args:
        block: The runs of a data set.
    """
    variant = block.find(REFERENCE)
    if variant is None:
        return {}
    summaries = {name: block.summary(variant, name) for name in block.modalities}
    return {name: summary.mean for name, summary in summaries.items() if summary.num}


def dominance(block: Block) -> float | None:
    """Return how many times as accurate the strongest modality is as the weakest one.

    Args:
        block: The runs of a data set.

    Returns:
        The ratio of their means when trained alone; None if they were not, or where the metric is
        no percentage of correct predictions.
    """
    alone = strengths(block)
    is_share = block.metric.percent and not block.metric.lower_is_better
    if len(alone) < 2 or not is_share or min(alone.values()) <= 0:
        return None
    return max(alone.values()) / min(alone.values())


def strength_table(table_blocks: Sequence[Block]) -> list[Table]:
    """Return the table of modalities that were trained alone, if any was.

    Args:
        table_blocks: The data sets.
    """
    rows = []
    for block in table_blocks:
        alone, ratio = strengths(block), dominance(block)
        if alone:
            text = ", ".join(f"{name} {block.metric.text(value)}" for name, value in alone.items())
            times = BLANK if ratio is None else f"{ratio:.2f}"
            rows.append(Row(block.title, (Cell(text), Cell(times))))
    if not rows:
        return []
    return [
        Table(
            slug="alone",
            title="Each modality trained alone",
            corner="",
            columns=("test score", "strongest to weakest"),
            sections=(Section("", tuple(rows)),),
            notes=("Means over seeds, and the ratio of the largest to the smallest.",),
        )
    ]


def dominance_sentences(table_blocks: Sequence[Block]) -> list[str]:
    """Return whether any data set is dominated by a modality, as a line of a Markdown list.

    Args:
        table_blocks: The data sets.
    """
    ratios = {b.title: ratio for b in table_blocks if (ratio := dominance(b)) is not None}
    if not ratios:
        return []
    listed = ", ".join(f"{title} {ratio:.1f}" for title, ratio in ratios.items())
    dominated = [title for title, ratio in ratios.items() if ratio >= DOMINANT]
    what = (
        f"twice as strong or more on {', '.join(dominated)}"
        if dominated
        else "nowhere twice as strong, so that nothing is said about such data"
    )
    return [
        "- Trained alone, the strongest modality is this many times as accurate as the weakest: "
        f"{listed}; {what}."
    ]


def simple_sentences(table_blocks: Sequence[Block]) -> list[str]:
    """Return how many methods a linear model surpasses, a line of a Markdown list per data set.

    Args:
        table_blocks: The data sets.
    """
    lines = []
    for block in table_blocks:
        linear = block.find("logistic")
        if linear is None or not block.values(linear):
            continue
        level, sign = block.summary(linear).mean, block.metric.sign
        means = [block.summary(v).mean for v in contenders(block) if block.values(v)]
        below = sum(sign * mean < sign * level for mean in means)
        lines.append(
            f"- {block.title}: a linear model of the inputs ({linear.label}) is at "
            f"{block.metric.text(level)}, above {below} of {len(means)} methods."
        )
    return lines


def measure_tables(table_blocks: Sequence[Block], order: Sequence[Variant]) -> list[Table]:
    """Return a table per data set of what else was measured of each method.

    Args:
        table_blocks: The data sets.
        order: The methods.
    """
    tables = []
    for block in table_blocks:
        shown = {
            column: (measure, digits)
            for column, (measure, digits) in MEASURES.items()
            if any(block.values(variant, measure=measure) for variant in order)
        }
        rows = []
        for variant in order:
            texts = [
                _mean(block, variant, MULTI, measure, digits) for measure, digits in shown.values()
            ]
            texts += [_mean(block, variant, m, None, block.metric.digits) for m in block.modalities]
            rows.append(Row(variant.label, tuple(map(Cell, texts))))
        tables.append(
            Table(
                slug=f"measures-{block.slug}",
                title=f"{block.title}: other measures, test split",
                corner="",
                columns=(*shown, *block.modalities),
                sections=(Section("", tuple(rows)),),
                notes=(
                    "Means over seeds. ECE: expected calibration error, from 0 to 1. Modalities: "
                    "how well the method classifies by one of them, by the rule of its fusion "
                    "(column unimodal_rule of results.csv).",
                ),
            )
        )
    return tables


def _mean(block: Block, variant: Variant, name: str, measure: str | None, digits: int) -> str:
    summary = block.summary(variant, name, measure=measure)
    return f"{summary.mean:.{digits}f}" if summary.num else BLANK
