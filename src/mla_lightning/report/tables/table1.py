"""Table 1: score of every method, by modality and fused, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mla_lightning.errors import RunError
from mla_lightning.report.document.table import BLANK, Cell, Report, Row, Section, Table
from mla_lightning.report.figures.modalities import READING, modality_figure
from mla_lightning.report.read.block import Block, blocks, limit_variants, runs_without_result
from mla_lightning.report.read.metrics import ACCURACY, MetricDisplay, metrics_of
from mla_lightning.report.read.paper import DATASETS, PaperTable, concerns_paper, read_table1
from mla_lightning.report.read.run import MULTI, Run
from mla_lightning.report.read.significance import compare
from mla_lightning.report.read.variant import (
    PAPER_METHODS,
    REFERENCE,
    REFERENCES,
    Variant,
    method_label,
)
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.folds import mean_over_splits
from mla_lightning.report.tables.rows import (
    COMPARISON_COLUMNS,
    COMPARISON_NOTE,
    LEGEND,
    PARTIAL_LEGEND,
    comparison_rows,
    difference_cell,
    is_partial,
    not_run,
    paper_row,
    reference_legend,
    score_row,
    score_title,
    section_title,
    shared_metric,
    summary_row,
)
from mla_lightning.report.tables.verdict import verdict
from mla_lightning.run_folder.tasks import CLASSIFICATION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Methods that each method is compared with.
BASELINES = ("concat", "late_fusion")
#: Label, measure, number of decimals.
COSTS = (
    ("best epoch", "best_epoch", 0),
    ("training time of a run, s", "train_time_s", 1),
    ("peak memory of a run, MB", "peak_memory_mb", 0),
)


def table1(runs: Sequence[Run]) -> Report:
    """Make Table 1.

    Args:
        runs: Runs of any data sets, seeds and methods.

    Returns:
        The report.

    Raises:
        RunError: If no run states what it is a run of, or two runs of one variant and seed
            conflict.
    """
    table_blocks = blocks(runs)
    if not table_blocks:
        raise RunError(
            "Table 1 needs runs that state data set, method and seed; none of them does."
        )
    over_splits = mean_over_splits(table_blocks)
    report_notes: list[str] = []
    figures: dict[str, Callable[[], Figure]] = {}
    for block in table_blocks:
        drawn, drawn_note = limit_variants(block)
        report_notes += [*notes.block_notes(block), *notes.reference_notes(block)]
        report_notes += [f"Figure: {drawn_note}"] if drawn_note else []
        if block.modalities:
            figures[f"table1-{block.slug}"] = partial(modality_figure, drawn)
    return Report(
        kind="table1",
        title="Table 1: each modality and all modalities (multi)",
        warnings=notes.warnings(table_blocks),
        tables=(
            _score_table(table_blocks, read_table1(), runs_without_result(table_blocks, runs)),
            *([over_splits] if over_splits else ()),
            _comparisons_table(table_blocks),
            _laziness_table(table_blocks),
            _probe_table(table_blocks),
            _measures_table(table_blocks),
        ),
        notes=tuple(report_notes),
        reading=READING,
        figures=figures,
        texts={"verdict.md": "".join(f"- {verdict(block)}\n" for block in table_blocks)},
    )


def competitors(block: Block) -> list[Variant]:
    """Return the variants of a block other than the references.

    Args:
        block: The block.

    Returns:
        The variants in the order of columns.
    """
    return [variant for variant in block.variants if variant.method not in REFERENCES]


def _score_table(
    table_blocks: Sequence[Block], paper: PaperTable, without_result: Sequence[Run]
) -> Table:
    present = {variant for block in table_blocks for variant in block.variants}
    methods = {variant.method for variant in present}
    datasets = {block.dataset for block in table_blocks}
    beside_paper = concerns_paper({block.dataset for block in table_blocks if not block.task})
    always = {variant for variant in present if variant in map(Variant, PAPER_METHODS)}
    if beside_paper:
        always |= {Variant(name) for name in PAPER_METHODS if name not in methods}
    columns = sorted(present | always, key=lambda variant: variant.sort_key)
    paper_columns = [v.method if v == Variant(v.method) else "" for v in columns]
    sections = []
    for block in table_blocks:
        rows = []
        modalities = (*block.modalities, MULTI) if block.modalities else None
        for modality in modalities or paper.modalities.get(block.dataset, (MULTI,)):
            rows.append(score_row(block, columns, modality, always=always))
            published = paper_row(paper, block.dataset, modality, paper_columns)
            rows += [published] if published else []
        sections.append(Section(section_title(block, table_blocks), tuple(rows)))
    if beside_paper:
        sections += [
            _not_run_section(name, paper, paper_columns)
            for name in DATASETS
            if name not in datasets
        ]
    legends = [LEGEND]
    tasks = {block.task for block in table_blocks}
    legends += [reference_legend(methods, tasks)] if methods & set(REFERENCES) else []
    legends += [PARTIAL_LEGEND] if is_partial(table_blocks) else []
    return Table(
        slug="",
        title=score_title(table_blocks, "Test"),
        corner="",
        columns=_labels(columns, table_blocks),
        sections=tuple(sections),
        notes=(" ".join(legends), *notes.missing_result_notes(without_result)),
    )


def _not_run_section(dataset: str, paper: PaperTable, columns: Sequence[str]) -> Section:
    rows = [paper_row(paper, dataset, modality, columns) for modality in paper.modalities[dataset]]
    return Section(
        dataset,
        tuple(row for row in rows if row),
        remark=not_run(dataset, "table1"),
        is_terminal_only=True,
    )


def _comparisons_table(table_blocks: Sequence[Block]) -> Table:
    sections = []
    for block in table_blocks:
        for baseline, columns in _by_baseline(block).items():
            values = block.values(baseline)
            pairs = [(v.label, compare(block.values(v), values)) for v in columns]
            name = section_title(block, table_blocks, is_difference=True)
            title = f"{name}, compared with {baseline.label}"
            sections.append(Section(title, comparison_rows(pairs, block.metric.digits)))
    note = COMPARISON_NOTE
    if all(len(block.seeds) < 2 for block in table_blocks):
        note = "One seed: differences without a significance test."
    return Table(
        slug="comparisons",
        title=score_title(table_blocks, "Differences in test", " (multi)", is_difference=True),
        corner="",
        columns=COMPARISON_COLUMNS,
        sections=tuple(sections),
        notes=(note,),
    )


def _by_baseline(block: Block) -> dict[Variant, list[Variant]]:
    """Return the columns that are compared with each baseline, if possible of equal overrides."""
    columns: dict[Variant, list[Variant]] = {}
    for name in BASELINES:
        for column in competitors(block):
            baseline = block.find(name, compared_with=column)
            baseline = block.find(name) if baseline == column else baseline
            if baseline not in (None, column) and block.values(baseline) and block.values(column):
                columns.setdefault(baseline, []).append(column)
    return columns


def _laziness_table(table_blocks: Sequence[Block]) -> Table:
    columns = sorted({v for b in table_blocks for v in competitors(b)}, key=lambda v: v.sort_key)
    sections = []
    metric = shared_metric(table_blocks)
    is_accuracy = metric is not None and metric.name == ACCURACY
    worse = "less accurate" if is_accuracy else "worse"
    table_notes = [
        f"Trained alone: {method_label(REFERENCE)}, paired by seed. Negative: the modality is "
        f"{worse} than when trained alone."
    ]
    for block in table_blocks:
        references = {column: block.find(REFERENCE, compared_with=column) for column in columns}
        if not any(references.values()):
            continue
        rows = []
        for modality in block.modalities:
            cells = []
            for column, reference in references.items():
                if reference is None:
                    cells.append(Cell(BLANK))
                    continue
                trained_alone = block.values(reference, modality)
                jointly = block.values(column, modality)
                comparison = compare(*block.metric.better_first(jointly, trained_alone))
                cells.append(difference_cell(block, comparison))
            rows.append(Row(modality, tuple(cells)))
        if rows:
            unit = f": {block.metric.label}{block.metric.gap_unit}" if metric is None else ""
            sections.append(Section(f"{block.title}{unit}", tuple(rows)))
        other_settings = {
            reference.label
            for column, reference in references.items()
            if reference and reference.overrides not in ((), column.overrides)
        }
        table_notes += [
            f"{block.title}: trained alone is {label}; columns with other settings are compared "
            "with it, too."
            for label in sorted(other_settings)
        ]
    return Table(
        slug="laziness",
        title=_laziness_title(metric),
        corner="",
        columns=_labels(columns, table_blocks),
        sections=tuple(sections),
        notes=tuple(table_notes),
    )


def _laziness_title(metric: MetricDisplay | None) -> str:
    if metric is None:
        return "Laziness gap: difference of a modality to the same one trained alone"
    name, unit = metric.label, metric.gap_unit
    if metric.lower_is_better:
        return f"Laziness gap: test {name} of a modality trained alone minus its {name}{unit}"
    return f"Laziness gap: test {name} of a modality minus its {name} when trained alone{unit}"


def _labels(columns: Sequence[Variant], table_blocks: Sequence[Block]) -> tuple[str, ...]:
    """Return the labels of the columns: a reference may be another model on other data."""
    labels: dict[Variant, dict[str, None]] = {}
    for block in table_blocks:
        for variant in block.variants:
            labels.setdefault(variant, {})[variant.label] = None
    return tuple(" / ".join(labels.get(column, [column.label])) for column in columns)


def _all_columns(table_blocks: Sequence[Block]) -> list[Variant]:
    return sorted({v for block in table_blocks for v in block.variants}, key=lambda v: v.sort_key)


def _probe_table(table_blocks: Sequence[Block]) -> Table:
    columns = _all_columns(table_blocks)
    sections = []
    for block in table_blocks:
        rows = []
        for modality in block.modalities:
            measure = block.metric.probe_column
            probes = [block.summary(column, modality, measure=measure) for column in columns]
            if any(summary.num for summary in probes):
                row = summary_row(
                    modality,
                    columns,
                    probes,
                    digits=block.metric.digits,
                    lower_is_better=block.metric.lower_is_better,
                )
                rows.append(row)
        if rows:
            sections.append(Section(section_title(block, table_blocks), tuple(rows)))
    return Table(
        slug="probe",
        title=_probe_title(shared_metric(table_blocks)),
        corner="",
        columns=_labels(columns, table_blocks),
        sections=tuple(sections),
        notes=(
            "A measure of each encoder's features that does not depend on the head: ridge "
            "regression, fitted on the train split in closed form; ridge term selected on "
            "validation.",
        ),
    )


def _probe_title(metric: MetricDisplay | None) -> str:
    if metric is None:
        return "Ridge probe: test score of a linear model on frozen features"
    model = "classifier" if metric.name == ACCURACY else "model"
    unit = ", in percent" if metric.percent else metric.unit
    return f"Ridge probe: test {metric.label} of a linear {model} on frozen features{unit}"


def _measures_table(table_blocks: Sequence[Block]) -> Table:
    columns = _all_columns(table_blocks)
    sections = []
    for block in table_blocks:
        rows = []
        for metric in metrics_of(block.runs).values():
            if not metric.in_table1 or metric.name == block.metric.name:
                continue
            summaries = [block.summary(column, measure=metric.column) for column in columns]
            is_expected = not block.task and CLASSIFICATION in metric.tasks
            if not is_expected and not any(summary.num for summary in summaries):
                continue  # of another task, or not defined for the target
            rows.append(
                summary_row(
                    f"{metric.label}, multi{', percent' if metric.percent else ''}",
                    columns,
                    summaries,
                    digits=metric.digits,
                    lower_is_better=metric.lower_is_better,
                )
            )
        for label, measure, digits in COSTS:
            summaries = [block.summary(column, measure=measure) for column in columns]
            rows.append(
                summary_row(
                    label, columns, summaries, digits=digits, is_ranked=False, with_spread=False
                )
            )
        sections.append(Section(block.title, tuple(rows)))
    return Table(
        slug="measures",
        title="Other measures on the test split, and mean cost",
        corner="",
        columns=_labels(columns, table_blocks),
        sections=tuple(sections),
    )
