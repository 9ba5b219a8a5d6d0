"""Table 1: every method on every modality and on all of them, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mla_lightning.errors import RunError
from mla_lightning.report.document.table import BLANK, Cell, Report, Row, Section, Table
from mla_lightning.report.figures.modalities import READING, modality_figure
from mla_lightning.report.read.block import Block, best_of, blocks, without_number
from mla_lightning.report.read.metrics import metrics_of
from mla_lightning.report.read.paper import DATASETS, Published, read_table1
from mla_lightning.report.read.run import MULTI, Run
from mla_lightning.report.read.variant import PAPER_METHODS, REFERENCE, Variant, method_label
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.rows import (
    COMPARISON_COLUMNS,
    COMPARISON_NOTE,
    LEGEND,
    PARTIAL_LEGEND,
    accuracy_row,
    comparison_rows,
    gap_cell,
    is_partial,
    not_run,
    paper_row,
    reference_legend,
    summary_row,
)
from mla_lightning.report.tables.significance import compare

#: Each method is compared with these.
BASELINES = ("concat", "late_fusion")
#: Label, measure, decimals.
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
        RunError: If no run tells what it is, or a cell was run twice.
    """
    found = blocks(runs)
    if not found:
        raise RunError("Table 1 needs runs that tell their data set, method and seed; none does.")
    return Report(
        kind="table1",
        title="Table 1: each modality alone and all together",
        warnings=notes.warnings(found),
        tables=(
            _accuracy(found, read_table1(), without_number(found, runs)),
            _comparisons(found),
            _laziness(found),
            _probes(found),
            _measures(found),
        ),
        notes=tuple(
            note
            for block in found
            for note in (*notes.about(block), best_of(block)[1] and f"Figure: {best_of(block)[1]}")
            if note
        ),
        reading=READING,
        figures={
            f"table1-{block.slug}": partial(modality_figure, best_of(block)[0])
            for block in found
            if block.modalities
        },
    )


def competitors(block: Block) -> list[Variant]:
    """List the columns that compete, which the unimodal reference does not.

    Args:
        block: The block.

    Returns:
        The columns in order.
    """
    return [variant for variant in block.variants if variant.method != REFERENCE]


def _accuracy(found: Sequence[Block], paper: Published, lacking: Sequence[Run]) -> Table:
    present = {variant for block in found for variant in block.variants}
    run_methods = {variant.method for variant in present}
    always = {Variant(name) for name in PAPER_METHODS if name not in run_methods} | {
        variant for variant in present if variant in map(Variant, PAPER_METHODS)
    }
    columns = sorted(present | always, key=lambda variant: variant.order)
    of_paper = [v.method if v == Variant(v.method) else "" for v in columns]
    sections = []
    for block in found:
        rows = []
        modalities = (*block.modalities, MULTI) if block.modalities else None
        for modality in modalities or paper.modalities.get(block.dataset, (MULTI,)):
            rows.append(accuracy_row(block, columns, modality, always=always))
            published = paper_row(paper, block.dataset, modality, of_paper)
            rows += [published] if published else []
        sections.append(Section(block.title, tuple(rows)))
    run = {block.dataset for block in found}
    sections += [_not_run(name, paper, of_paper) for name in DATASETS if name not in run]
    legends = [LEGEND]
    legends += [reference_legend()] if REFERENCE in run_methods else []
    legends += [PARTIAL_LEGEND] if is_partial(found) else []
    return Table(
        slug="",
        title="Test accuracy in percent",
        corner="",
        columns=tuple(variant.label for variant in columns),
        sections=tuple(sections),
        notes=(" ".join(legends), *notes.without_number(lacking)),
    )


def _not_run(dataset: str, paper: Published, columns: Sequence[str]) -> Section:
    rows = [paper_row(paper, dataset, modality, columns) for modality in paper.modalities[dataset]]
    return Section(
        dataset,
        tuple(row for row in rows if row),
        remark=not_run(dataset, "table1"),
        is_terminal_only=True,
    )


def _comparisons(found: Sequence[Block]) -> Table:
    sections = []
    for block in found:
        for baseline, others in _against(block).items():
            alone = block.values(baseline)
            pairs = [(v.label, compare(block.values(v), alone)) for v in others]
            title = f"{block.title}, against {baseline.label}"
            sections.append(Section(title, comparison_rows(pairs)))
    note = COMPARISON_NOTE
    if all(len(block.seeds) < 2 for block in found):
        note = "One seed: differences without a test."
    return Table(
        slug="comparisons",
        title="Difference in multi test accuracy, in points",
        corner="",
        columns=COMPARISON_COLUMNS,
        sections=tuple(sections),
        notes=(note,),
    )


def _against(block: Block) -> dict[Variant, list[Variant]]:
    """Give each column its baselines: with the same overrides, where there is one."""
    found: dict[Variant, list[Variant]] = {}
    for name in BASELINES:
        for column in competitors(block):
            baseline = block.find(name, beside=column)
            baseline = block.find(name) if baseline == column else baseline
            if baseline not in (None, column) and block.values(baseline) and block.values(column):
                found.setdefault(baseline, []).append(column)
    return found


def _laziness(found: Sequence[Block]) -> Table:
    columns = sorted({v for block in found for v in competitors(block)}, key=lambda v: v.order)
    sections = []
    reference = method_label(REFERENCE)
    told = [f"Alone: {reference}, paired by seed. Negative: left behind by the others."]
    for block in found:
        beside = {column: block.find(REFERENCE, beside=column) for column in columns}
        if not any(beside.values()):
            continue
        rows = []
        for modality in block.modalities:
            cells = [
                gap_cell(
                    block, compare(block.values(column, modality), block.values(alone, modality))
                )
                if alone
                else Cell(BLANK)
                for column, alone in beside.items()
            ]
            rows.append(Row(modality, tuple(cells)))
        if rows:
            sections.append(Section(block.title, tuple(rows)))
        unlike = {
            alone.label
            for column, alone in beside.items()
            if alone and alone.overrides not in ((), column.overrides)
        }
        told += [f"{block.title}: alone is {label}, unlike columns without it." for label in unlike]
    return Table(
        slug="laziness",
        title="Laziness gap: a modality's test accuracy less what it reaches alone, in points",
        corner="",
        columns=tuple(variant.label for variant in columns),
        sections=tuple(sections),
        notes=tuple(told),
    )


def _probes(found: Sequence[Block]) -> Table:
    columns = sorted({v for block in found for v in block.variants}, key=lambda v: v.order)
    sections = []
    for block in found:
        rows = []
        for modality in block.modalities:
            measured = [block.summary(c, modality, measure="probe_percent") for c in columns]
            if any(one.num for one in measured):
                rows.append(summary_row(modality, columns, measured))
        if rows:
            sections.append(Section(block.title, tuple(rows)))
    return Table(
        slug="probe",
        title="Ridge probe: test accuracy of a linear classifier on frozen features, in percent",
        corner="",
        columns=tuple(variant.label for variant in columns),
        sections=tuple(sections),
        notes=(
            "What each encoder knows, whatever the head does with it: fitted on train in closed "
            "form, its ridge term chosen on validation.",
        ),
    )


def _measures(found: Sequence[Block]) -> Table:
    columns = sorted({v for block in found for v in block.variants}, key=lambda v: v.order)
    sections = []
    for block in found:
        rows = []
        for metric in metrics_of(block.runs).values():
            if not metric.in_table1:
                continue
            found_here = [block.summary(column, measure=metric.column) for column in columns]
            rows.append(
                summary_row(
                    f"{metric.label}, multi{', percent' if metric.percent else ''}",
                    columns,
                    found_here,
                    digits=metric.digits,
                    lower_is_better=metric.lower_is_better,
                )
            )
        for label, measure, digits in COSTS:
            found_here = [block.summary(column, measure=measure) for column in columns]
            rows.append(
                summary_row(
                    label, columns, found_here, digits=digits, is_ranked=False, with_spread=False
                )
            )
        sections.append(Section(block.title, tuple(rows)))
    return Table(
        slug="measures",
        title="Other measures on the test split, and mean cost",
        corner="",
        columns=tuple(variant.label for variant in columns),
        sections=tuple(sections),
    )
