"""Report on variants of a method: validation accuracy at the best and at the last epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from mla_lightning.report.figures.curves import Curves, curves_figure, read_curves
from mla_lightning.report.read.block import Block, Summary, blocks, runs_without_result
from mla_lightning.report.read.run import MULTI, Run
from mla_lightning.report.read.significance import compare
from mla_lightning.report.read.variant import REFERENCE, Variant
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.rows import (
    COLUMN_LEGEND,
    COMPARISON_COLUMNS,
    COMPARISON_NOTE,
    PARTIAL_LEGEND,
    comparison_rows,
    is_partial,
)

SPLIT = "val"
LAST = "multi, last epoch"
EPOCH = "best epoch"
#: Command that makes the report again; FOLDER holds its ``results.csv``.
COMMAND = "python -m experiments.projection FOLDER/results.csv --output FOLDER"


def projection_report(runs: Sequence[Run]) -> Report:
    """Compare projection modes, or any other variants, on validation, by number of epochs.

    Args:
        runs: Runs that differ in method, ablation, overrides and number of epochs.

    Returns:
        The report, of the validation split alone.

    Raises:
        RunError: If no run has a data set, method, seed and number of epochs, or two runs have the
            same cell.
    """
    lengths = sorted({run.epochs for run in runs if run.epochs is not None})
    groups = [
        (block, num_epochs, read_curves(block, (MULTI, *block.modalities)))
        for num_epochs in lengths
        for block in blocks(run for run in runs if run.epochs == num_epochs)
    ]
    if not groups:
        raise RunError(
            "A comparison of variants needs runs with a data set, method, seed and number of "
            "epochs; there is none. Train them: mla train -m experiment=projection/openmoji"
        )
    all_blocks = [block for block, _, _ in groups]
    names = tuple(dict.fromkeys(name for block in all_blocks for name in block.modalities))
    columns = (MULTI, LAST, *names, EPOCH)
    legends = [COLUMN_LEGEND]
    legends += [PARTIAL_LEGEND] if is_partial(all_blocks, split=SPLIT) else []
    if any(run.is_finished and run.path is None for run in runs):
        legends.append("Learning curves and the last epoch need the run folders.")
    return Report(
        kind="projection",
        title="Comparison of variants on validation",
        warnings=notes.warnings(all_blocks),
        tables=(
            Table(
                slug="",
                title="Validation accuracy (%) at the best and at the last epoch",
                corner="",
                columns=columns,
                sections=tuple(
                    Section(f"{block.title}, {num_epochs} epochs", _rows(block, columns, curves))
                    for block, num_epochs, curves in groups
                ),
                notes=(
                    " ".join(legends),
                    *notes.missing_result_notes(runs_without_result(all_blocks, runs)),
                ),
            ),
            _differences([(block, num_epochs) for block, num_epochs, _ in groups]),
        ),
        notes=tuple(
            dict.fromkeys(
                note for block in all_blocks for note in notes.block_notes(block, split=SPLIT)
            )
        ),
        figures={
            f"projection-{block.slug}-{num_epochs}_epochs": partial(
                curves_figure, curves, block.title
            )
            for block, num_epochs, curves in groups
            if curves.epochs
        },
        command=COMMAND,
    )


def without_hgm(block: Block) -> Variant | None:
    """Return the column without head gradient modification, None if there is none or several.

    Args:
        block: The block.
    """
    plain = [
        variant
        for variant in block.variants
        if variant.ablation == "no_hgm" or ("method.hgm", "false") in variant.overrides
    ]
    return plain[0] if len(plain) == 1 else None


def _rows(block: Block, columns: Sequence[str], curves: Curves) -> tuple[Row, ...]:
    by_column: dict[str, list[Summary]] = {}
    for name in columns:
        summaries = []
        for variant in block.variants:
            if name == EPOCH:
                summaries.append(block.summary(variant, split=SPLIT, measure="best_epoch"))
            elif name == LAST:
                summaries.append(_last_epoch(block, variant, curves))
            else:
                summaries.append(block.summary(variant, name, split=SPLIT))
        by_column[name] = summaries
    # Ranks are by column, because the variants are rows.
    column_ranks = {
        name: ranks([_ranked_mean(v, s, name) for v, s in zip(block.variants, cells, strict=True)])
        for name, cells in by_column.items()
    }
    rows = []
    for index, variant in enumerate(block.variants):
        row = []
        for name in columns:
            summary = by_column[name][index]
            is_known = summary.num or name == MULTI
            digits = 0 if name == EPOCH else 1
            row.append(
                summary_cell(summary, digits, column_ranks[name][index])
                if is_known
                else Cell(BLANK)
            )
        rows.append(Row(variant.label, tuple(row)))
    return tuple(rows)


def _ranked_mean(variant: Variant, summary: Summary, name: str) -> float | None:
    is_ranked = summary.is_complete and variant.method != REFERENCE and name != EPOCH
    return summary.mean if is_ranked else None


def _last_epoch(block: Block, variant: Variant, curves: Curves) -> Summary:
    by_seed: Mapping[int, Sequence[float]] = curves.lines.get(MULTI, {}).get(variant.label, {})
    return Summary({seed: values[-1] for seed, values in by_seed.items()}, block.seeds)


def _differences(groups: Sequence[tuple[Block, int]]) -> Table:
    sections = []
    for block, num_epochs in groups:
        plain = without_hgm(block)
        if plain is None:
            continue
        base = block.values(plain, split=SPLIT)
        others = [v for v in block.variants if v != plain and v.method != REFERENCE]
        pairs = [(v.label, compare(block.values(v, split=SPLIT), base)) for v in others]
        paired = [pair for pair in pairs if pair[1].seeds]
        if paired:
            title = f"{block.title}, {num_epochs} epochs, against {plain.label}"
            sections.append(Section(title, comparison_rows(paired)))
    return Table(
        slug="differences",
        title="Difference in multi validation accuracy (percentage points)",
        corner="",
        columns=COMPARISON_COLUMNS,
        sections=tuple(sections),
        notes=(COMPARISON_NOTE,),
    )
