"""The tables of the benchmark."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from mla_lightning.report.document.table import (
    BEST,
    BLANK,
    Cell,
    Row,
    Section,
    Table,
    format_states,
    ranks,
    signed,
)
from mla_lightning.report.read.block import Block, Summary, runs_without_result
from mla_lightning.report.read.run import Run
from mla_lightning.report.read.significance import (
    CONFIDENCE,
    compare,
)
from mla_lightning.report.read.variant import WITHOUT_NETWORK, Variant
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.across import (
    Estimate,
    interquartile_mean,
    probability_of_improvement,
)
from mla_lightning.report.tables.asked import (
    SINGLE,
    Answer,
    asked_label,
    best_single,
    by_method,
    contenders,
    is_winner,
    values_of,
    verdict_text,
)
from mla_lightning.report.tables.rows import (
    COMPARISON_COLUMNS,
    comparison_rows,
    score_title,
    section_title,
)

SCORE_LEGEND = (
    f"Mean over seeds ± half the width of its {CONFIDENCE:.0%} confidence interval (number of "
    "seeds). Best of each data set in bold, second best underlined. Rows by mean rank. The best "
    "single modality is the one with the best mean on validation when trained alone."
)
VERDICT_LEGEND = (
    "Mean difference over data sets, and on how many of them the method is better or worse "
    "(significant: Holm-corrected p < 0.05 over all methods and data sets of the column), slightly "
    "better or worse (significant, but the 95 % interval, which is not corrected, is within the "
    "margin: one point, or the standard error of the test split if that is larger), equal (not "
    "significant, and within the margin) or open (neither). Bold: better on two or more data sets, "
    "or on the only one, and worse on none."
)


def order_of(table_blocks: Sequence[Block], ranked: Sequence[Variant]) -> list[Variant]:
    """Return all methods: those with results on every data set by mean rank, then the others."""
    everyone = dict.fromkeys(v for block in table_blocks for v in contenders(block))
    means = dict(zip(ranked, mean_ranks_of(table_blocks, ranked), strict=True))
    return sorted(everyone, key=lambda v: (means.get(v, math.inf), v.sort_key))


def complete_methods(table_blocks: Sequence[Block]) -> list[Variant]:
    """Return the methods with a result on every data set."""
    everyone = dict.fromkeys(v for block in table_blocks for v in contenders(block))
    return [v for v in everyone if all(block.values(v) for block in table_blocks)]


def mean_scores(table_blocks: Sequence[Block], methods: Sequence[Variant]) -> list[list[float]]:
    """Return the mean of each method on each data set; larger is better."""
    return [[b.metric.sign * b.summary(v).mean for v in methods] for b in table_blocks]


def mean_ranks_of(table_blocks: Sequence[Block], methods: Sequence[Variant]) -> Sequence[float]:
    """Compute the mean rank of each method over data sets; 1 is the best."""
    from scipy.stats import rankdata

    rows = [rankdata([-score for score in row]) for row in mean_scores(table_blocks, methods)]
    return [statistics.fmean(column) for column in zip(*rows, strict=True)]


def score_table(
    table_blocks: Sequence[Block], order: Sequence[Variant], runs: Sequence[Run]
) -> Table:
    """Make the table of scores: methods by mean rank, then the references."""
    columns = []
    for block in table_blocks:
        summaries = [block.summary(variant) for variant in order]
        means = [s.mean if s.is_complete else None for s in summaries]
        digits, lower = block.metric.digits, block.metric.lower_is_better
        places = ranks(means, digits, lower_is_better=lower)
        columns.append([_mean_cell(s, digits, r) for s, r in zip(summaries, places, strict=True)])
    rows = [
        Row(variant.label, tuple(column[place] for column in columns))
        for place, variant in enumerate(order)
    ]
    return Table(
        slug="",
        title=score_title(table_blocks, "Test", " (multi)"),
        corner="",
        columns=tuple(section_title(block, table_blocks) for block in table_blocks),
        sections=(
            Section("Methods", tuple(rows)),
            Section("References", tuple(_reference_rows(table_blocks))),
        ),
        notes=(
            SCORE_LEGEND,
            *notes.missing_result_notes(runs_without_result(table_blocks, runs)),
        ),
    )


def _reference_rows(table_blocks: Sequence[Block]) -> list[Row]:
    cells = []
    for block in table_blocks:
        single = best_single(block)
        if single is None:
            cells.append(Cell(BLANK))
            continue
        cell = _mean_cell(block.summary(single[1], single[0]), block.metric.digits)
        cells.append(Cell(f"{cell.text} {single[0]}"))
    rows = [Row("best single modality", tuple(cells))]
    for name in WITHOUT_NETWORK:
        found = [(block, block.find(name)) for block in table_blocks]
        if any(variant for _, variant in found):
            cells = [
                _mean_cell(block.summary(variant), block.metric.digits) if variant else Cell(BLANK)
                for block, variant in found
            ]
            label = next(variant.label for _, variant in found if variant)
            rows.append(Row(label, tuple(cells)))
    return rows


def _mean_cell(summary: Summary, digits: int, rank: int = 0) -> Cell:
    """Format a mean with half the width of its confidence interval."""
    if not summary.num:
        return Cell(format_states(summary), is_quiet=True)
    zeros = dict.fromkeys(summary.values, 0.0)
    comparison = compare(summary.values, zeros)
    width = ""
    if comparison.low is not None and comparison.high is not None:
        width = f" ± {(comparison.high - comparison.low) / 2:.{digits}f}"
    num = f"{summary.num}" if summary.is_complete else f"{summary.num} of {len(summary.expected)}"
    return Cell(f"{summary.mean:.{digits}f}{width} ({num})", rank)


def verdict_table(
    asked: Mapping[str, Sequence[Answer]], order: Sequence[Variant], num_sets: int
) -> Table:
    """Make the table of verdicts: one column per reference."""
    grouped = {name: by_method(found) for name, found in asked.items()}
    rows = []
    for variant in order:
        cells = []
        for methods in grouped.values():
            of_method = methods.get(variant, [])
            means = [a.comparison.mean for a in of_method if a.comparison.mean is not None]
            if not means:
                cells.append(Cell(BLANK))
                continue
            digits = of_method[0].block.metric.digits
            verdicts = verdict_text(of_method, num_sets)
            text = f"{signed(statistics.fmean(means), digits)}: {verdicts}"
            cells.append(Cell(text, BEST if is_winner(of_method, num_sets) else 0))
        rows.append(Row(variant.label, tuple(cells)))
    return Table(
        slug="verdicts",
        title="Compared with the references",
        corner="",
        columns=tuple(f"than {asked_label(name)}" for name in grouped),
        sections=(Section("", tuple(rows)),),
        notes=(VERDICT_LEGEND,),
    )


def difference_sections(
    table_blocks: Sequence[Block], found: Sequence[Answer]
) -> tuple[Section, ...]:
    """Return a section per data set with the differences of its methods."""
    sections = []
    for block in table_blocks:
        here = [answer for answer in found if answer.block is block]
        if here:
            rows = comparison_rows(
                [(answer.variant.label, answer.comparison) for answer in here],
                block.metric.digits,
                [answer.p for answer in here],
            )
            title = section_title(block, table_blocks, is_difference=True)
            sections.append(Section(title, rows))
    return tuple(sections)


def comparison_table(table_blocks: Sequence[Block], found: Sequence[Answer]) -> Table:
    """Make the table of differences to one reference, a section per data set."""
    reference = found[0].reference
    label = asked_label(reference)
    return Table(
        slug=f"versus-{reference}",
        title=f"Differences to {label}, positive is better",
        corner="",
        columns=COMPARISON_COLUMNS,
        sections=difference_sections(table_blocks, found),
        notes=(
            "Two-sided paired t-test over the common seeds. p corrected: Holm correction over all "
            "methods and data sets of this table. The interval is not corrected. Bold: significant "
            "(corrected p < 0.05).",
        ),
    )


def across_tables(table_blocks: Sequence[Block], methods: Sequence[Variant]) -> list[Table]:
    """Return the table over data sets, if there are two or more."""
    if len(table_blocks) < 2 or not methods:
        return []
    normalised = {v: [_normalised(b, v, methods) for b in table_blocks] for v in methods}
    raw = {v: [_oriented(b, v) for b in table_blocks] for v in methods}
    references = [v for name in ("concat", "ensemble") for v in methods if v == Variant(name)]
    mean_ranks = dict(zip(methods, mean_ranks_of(table_blocks, methods), strict=True))
    rows = []
    for variant in sorted(methods, key=lambda v: mean_ranks[v]):
        cells = [
            Cell(f"{mean_ranks[variant]:.1f}"),
            _estimate_cell(interquartile_mean(normalised[variant])),
        ]
        for reference in references:
            if variant == reference:
                cells.append(Cell(BLANK))
            else:
                estimate = probability_of_improvement(raw[variant], raw[reference])
                cells.append(_estimate_cell(estimate))
        rows.append(Row(variant.label, tuple(cells)))
    return [
        Table(
            slug="across",
            title=f"Over {len(table_blocks)} data sets",
            corner="",
            columns=(
                "mean rank",
                "interquartile mean",
                *(f"probability of improvement over {v.label}" for v in references),
            ),
            sections=(Section("", tuple(rows)),),
            notes=(
                "With 95 % intervals of a stratified bootstrap over runs (2,000 resamples). "
                "Interquartile mean: scores are normalised so that 0 is the best single modality "
                "and 1 is the range of the methods' means on the data set, and the lowest and the "
                "highest quarter of a method's runs do not count. Probability of improvement: that "
                "a run of the method is better than a run of the other. Methods with results on "
                "every data set.",
                *_fewer_runs(table_blocks, methods),
            ),
        )
    ]


def _fewer_runs(table_blocks: Sequence[Block], methods: Sequence[Variant]) -> list[str]:
    """Return a note on methods some of whose runs have no result, which may flatter them."""
    found = [
        f"{variant.label} ({block.title}: {summary.num} of {len(summary.expected)})"
        for variant in methods
        for block in table_blocks
        if not (summary := block.summary(variant)).is_complete
    ]
    if not found:
        return []
    listed = ", ".join(found)
    return [f"Without a result of every seed, which may flatter the method: {listed}."]


def _oriented(block: Block, variant: Variant) -> list[float]:
    return [block.metric.sign * value for value in block.values(variant).values()]


def _normalised(block: Block, variant: Variant, methods: Sequence[Variant]) -> list[float]:
    """Return a method's scores: 0 is the best single modality, 1 the range of the methods."""
    means = [block.metric.sign * block.summary(v).mean for v in methods]
    single = list(values_of(block, SINGLE).values())
    zero = block.metric.sign * statistics.fmean(single) if single else min(means)
    width = (max(means) - min(means)) or 1.0
    return [(score - zero) / width for score in _oriented(block, variant)]


def _estimate_cell(estimate: Estimate) -> Cell:
    return Cell(f"{estimate.value:.2f} ({estimate.low:.2f} to {estimate.high:.2f})")


def cost_tables(table_blocks: Sequence[Block], order: Sequence[Variant]) -> list[Table]:
    """Make the tables of training times and, if they were counted, of FLOPs, as multiples."""
    tables = [
        _cost_table(
            *(table_blocks, order, "train_time_s", "cost"),
            "Training time of a run, as a multiple of Concat's",
            "Time until the last epoch, with teachers, passes over the data and other preparations "
            "of the method. Comparable only between runs on one machine with the same load.",
        )
    ]
    if any(run.train_gflop for block in table_blocks for run in block.runs):
        tables.append(
            _cost_table(
                *(table_blocks, order, "train_gflop", "flops"),
                "FLOPs of a run's training steps, as a multiple of Concat's",
                "By PyTorch's counter: of the first step of each stage, with teachers, and of the "
                "first pass over the data at the start of an epoch, which some methods need; later "
                "ones by their number of samples.",
            )
        )
    return tables


def _cost_table(
    table_blocks: Sequence[Block],
    order: Sequence[Variant],
    measure: str,
    slug: str,
    title: str,
    note: str,
) -> Table:
    rows = []
    for variant in order:
        cells = []
        for block in table_blocks:
            concat = block.find("concat")
            own = block.summary(variant, measure=measure)
            base = block.summary(concat, measure=measure) if concat else None
            if not own.num or base is None or not base.num or not base.mean:
                cells.append(Cell(BLANK))
            else:
                cells.append(Cell(f"{own.mean / base.mean:.1f}"))
        rows.append(Row(variant.label, tuple(cells)))
    return Table(
        slug=slug,
        title=title,
        corner="",
        columns=tuple(block.title for block in table_blocks),
        sections=(Section("", tuple(rows)),),
        notes=(note,),
    )
