"""Tables and figures of the families, and tables of forgetting and memory."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.claims.families import METHOD, Blocks, Family, Line
from experiments.claims.rounds import ROUNDS, Round, modification_label, modified_columns
from mla_lightning.report.document.table import (
    BEST,
    BLANK,
    Cell,
    Row,
    Section,
    Table,
    p_text,
    signed,
)
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.significance import (
    CONFIDENCE,
    SIGNIFICANT,
    Comparison,
    compare,
    least_effect,
)
from mla_lightning.report.read.variant import Variant

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INTERVAL = f"{CONFIDENCE:.0%} interval"
COLUMNS = ("difference", INTERVAL, "effect size", "p", "p corrected", "seeds")
#: Changes of the other modalities' loss by a step: header, measure, decimals.
CHANGES = (
    ("others' loss by a whole step, thousandths", "forgetting", 2),
    ("by its gradient alone", "forgetting_own", 2),
)
#: Further measures of runs with diagnostics: header, measure, decimals.
MEASURED = (
    ("cosine of head gradients", "gradient_cosine", 3),
    ("mean eigenvalue at the end", "projector_trace", 3),
    ("weight where right less wrong", "weight_gain", 3),
    ("calibration error, multi", "ece", 3),
    ("after temperature scaling", "ece_scaled", 3),
)


def family_table(family: Family) -> Table:
    """Return the table of a family, with its verdict and the effect size that it can detect."""
    lines = family.lines
    sections = []
    for name in dict.fromkeys(line.section for line in lines):
        rows = [_row(line) for line in lines if line.section == name]
        sections.append(Section(name, tuple(rows)))
    low, high = (sum(line.sign == sign for line in lines) for sign in (-1, 1))
    verdict = (
        f"Of {len(lines)} comparisons: {low} significantly {family.down}, {high} significantly "
        f"{family.up}, {len(lines) - low - high} without a significant difference."
    )
    notes = (verdict, *power_note(lines), *family.notes)
    return Table(family.slug, family.title, "", COLUMNS, tuple(sections), notes)


def power_note(lines: Sequence[Line]) -> tuple[str, ...]:
    """Return a sentence on the effect size that a family can detect.

    Args:
        lines: The comparisons of the family.

    Returns:
        The effect size at which the first of Holm's tests has a power of 50 %, and the difference
        to which it corresponds on each data set at the median standard deviation of the
        differences; empty without a test.
    """
    tested = [line for line in lines if line.comparison.p is not None and line.comparison.sd]
    counts = Counter(len(line.comparison.seeds) for line in tested)
    if not counts:
        return ()
    num_seeds = counts.most_common(1)[0][0]
    num_tests = sum(line.comparison.p is not None for line in lines)
    least = least_effect(num_seeds, num_tests, SIGNIFICANT)
    spreads: dict[str, list[float]] = {}
    for line in tested:
        spreads.setdefault(line.section, []).append(line.comparison.sd or 0.0)
    sizes = ", ".join(
        f"{name} {least * statistics.median(sds):.1f}" for name, sds in spreads.items()
    )
    return (
        f"With {num_seeds} seeds and this many comparisons, the power is below one half for effect "
        f"sizes below {least:.2f}; at the median standard deviation of the differences, this "
        f"corresponds to: {sizes}.",
    )


def _row(line: Line) -> Row:
    comparison = line.comparison
    effect = BLANK
    if comparison.sd and comparison.mean is not None:
        effect = signed(comparison.mean / comparison.sd, 2)
    p_values = (p_text(comparison.p), p_text(line.p))
    texts = (_interval(comparison), effect, *p_values, str(len(comparison.seeds)))
    mean = Cell(signed(comparison.mean), BEST if line.sign else 0)
    return Row(line.label, (mean, *map(Cell, texts)))


def _interval(comparison: Comparison, digits: int = 1) -> str:
    if comparison.low is None:
        return BLANK
    return f"{signed(comparison.low, digits)} to {signed(comparison.high, digits)}"


def forgetting_tables(round_: Round, blocks: Blocks) -> tuple[Table, ...]:
    """Return tables of forgetting in the shared head, with and without modification.

    Args:
        round_: The round.
        blocks: Data set -> block of its runs.

    Returns:
        A table of means, and one of the change of loss by pair of modalities; without rows if the
        runs have no diagnostics.
    """
    suffix = "" if round_ == ROUNDS[0] else f"-{round_.slug}"
    title = f"{round_.title}: forgetting of the shared head"
    return (
        _measures_table(f"forgetting{suffix}", f"{title}, means over epochs and seeds", blocks),
        _pairs_table(
            f"pairs{suffix}", f"{title}, change of loss by pair of modalities (thousandths)", blocks
        ),
    )


def _measures_table(slug: str, title: str, blocks: Blocks) -> Table:
    sections = []
    for block in blocks.values():
        rows = []
        for label, variant in _columns(block):
            if not any(
                block.summary(variant, measure=m).num for m in ("forgetting", "gradient_cosine")
            ):
                continue
            texts = []
            for _, measure, digits in CHANGES:
                changes = block.values(variant, measure=measure)
                interval = _interval(compare(changes, dict.fromkeys(changes, 0.0)), digits)
                texts += [_mean(block, variant, measure, digits), interval]
            texts += [_mean(block, variant, measure, digits) for _, measure, digits in MEASURED]
            rows.append(Row(label, tuple(map(Cell, texts))))
        sections += [Section(block.title, tuple(rows))] if rows else []
    headers = [text for header, _, _ in CHANGES for text in (header, INTERVAL)]
    headers += [header for header, _, _ in MEASURED]
    return Table(
        slug,
        title,
        "",
        tuple(headers),
        tuple(sections),
        (
            "First columns: above zero, a step on one modality increases the loss of the others; "
            "mean over all pairs of modalities, with the confidence interval of the mean, not "
            "corrected. A whole step is that of the optimizer: with momentum, which holds earlier "
            "gradients of all modalities. Runs of an earlier version, whose changes included those "
            "of running statistics, have no number in these columns.",
        ),
    )


def _mean(block: Block, variant: Variant, measure: str, digits: int) -> str:
    summary = block.summary(variant, measure=measure)
    spread = f" ± {summary.sd:.{digits}f}" if summary.num > 1 else ""
    return f"{summary.mean:.{digits}f}{spread}" if summary.num else BLANK


def _pairs_table(slug: str, title: str, blocks: Blocks) -> Table:
    sections = []
    for block in blocks.values():
        rows = []
        for label, variant in _columns(block):
            by_pair: dict[str, dict[int, float]] = {}
            for seed, run in block.runs_by_variant[variant].items():
                for pair, change in json.loads(run.forgetting_pairs or "{}").items():
                    by_pair.setdefault(pair, {})[seed] = change
            for pair, changes in by_pair.items():
                change = compare(changes, dict.fromkeys(changes, 0.0))
                texts = (signed(change.mean, 2), _interval(change, 2), str(len(changes)))
                rows.append(Row(f"{label}: {pair}", tuple(map(Cell, texts))))
        sections += [Section(block.title, tuple(rows))] if rows else []
    note = (
        "a > b: change of the loss of modality b by a step on modality a; above zero, the step "
        "harms b."
    )
    columns = ("change", INTERVAL, "seeds")
    return Table(slug, title, "", columns, tuple(sections), (note,))


def _columns(block: Block) -> list[tuple[str, Variant]]:
    """Return the labels and columns of a round, first the one without modification."""
    plain = block.find(METHOD, "no_hgm")
    columns = [("none", plain)] if plain else []
    return columns + [(modification_label(v), v) for v in modified_columns(block)]


def memory_table(blocks: Blocks) -> Table:
    """Return the table of peak memory by method.

    Args:
        blocks: Data set -> block of runs, each trained in a separate process.
    """
    sections = []
    for block in blocks.values():
        summaries = {v: block.summary(v, measure="peak_memory_mb") for v in block.variants}
        measured = {v: summary for v, summary in summaries.items() if summary.num}
        least = min((summary.mean for summary in measured.values()), default=0.0)
        rows = []
        for variant, summary in measured.items():
            spread = f" ± {summary.sd:.0f}" if summary.sd is not None else ""
            texts = (f"{summary.mean:.0f}{spread}", f"{summary.mean - least:.0f}")
            rows.append(Row(variant.label, tuple(map(Cell, texts))))
        sections += [Section(block.title, tuple(rows))] if rows else []
    return Table(
        "memory",
        "5. Peak memory of the process of a run (MiB)",
        "",
        ("mean ± sd over seeds", "above the leanest method"),
        tuple(sections),
        (
            "Peak resident memory of the runs of Table 1, each in a separate process. It includes "
            "imports, data and evaluation, so the second column shows what a method adds; "
            "differences within the spread over seeds are not meaningful.",
        ),
    )


def forest_plot(lines: Sequence[Line], title: str) -> Figure:
    """Draw mean differences with confidence intervals, with a panel per data set.

    Args:
        lines: The comparisons.
        title: Label of the horizontal axis.
    """
    from mla_lightning.report.figures.style import (
        ABOVE,
        BELOW,
        GREY,
        GRID,
        TWO_COLUMNS,
        new_figure,
        set_title,
        style,
    )

    by_name: dict[str, list[Line]] = {}
    for line in lines:
        by_name.setdefault(line.section, []).append(line)
    num_rows = -(-len(by_name) // 2)
    most = max(map(len, by_name.values()))
    colours = {1: ABOVE, -1: BELOW, 0: GREY}
    with style():
        figure = new_figure(TWO_COLUMNS, 0.6 + num_rows * (0.5 + 0.17 * most))
        axes = figure.subplots(num_rows, min(2, len(by_name)), squeeze=False).flat
        for axis in axes[len(by_name) :]:
            axis.set_visible(False)
        for axis, (name, panel) in zip(axes, by_name.items(), strict=False):
            for place, line in enumerate(panel):
                colour, comparison = colours[line.sign], line.comparison
                if comparison.low is not None and comparison.high is not None:
                    interval = [comparison.low, comparison.high]
                    axis.plot(interval, [place, place], color=colour, linewidth=1.4)
                axis.plot([comparison.mean], [place], "o", color=colour, markersize=4)
            axis.axvline(0, color="black", linewidth=0.8)
            axis.set_yticks(range(len(panel)), [line.label for line in panel])
            axis.set_ylim(most - 0.4, -0.6)
            axis.set_title(name, loc="left")
            axis.grid(axis="x", color=GRID, linewidth=0.6)
        set_title(figure, title)
        words = f"bars: 95 % CI; coloured: corrected p < {SIGNIFICANT}"
        figure.supxlabel(words, fontsize="medium")
    return figure
