"""Variants of a method on validation: how well they do, and whether they keep learning."""

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
    cell,
    ranks,
)
from mla_lightning.report.figures.curves import Curves, curves_figure, read_curves
from mla_lightning.report.read.block import (
    REFERENCE,
    Block,
    Summary,
    Variant,
    blocks,
    without_number,
)
from mla_lightning.report.read.run import MULTI, Run
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.rows import (
    COMPARISON_COLUMNS,
    COMPARISON_NOTE,
    LEGEND,
    PARTIAL_LEGEND,
    comparison_rows,
    is_partial,
)
from mla_lightning.report.tables.significance import compare

SPLIT = "val"
LAST = "multi, last epoch"
EPOCH = "best epoch"


def projection(runs: Sequence[Run]) -> Report:
    """Compare projection modes, or any other variants, on validation, by length of training.

    Args:
        runs: Runs that differ in method, ablation, overrides and length.

    Returns:
        The report; nothing of the test split enters it.

    Raises:
        RunError: If no run tells what it is, or a cell was run twice.
    """
    lengths = sorted({run.epochs for run in runs if run.epochs is not None})
    found = [
        (block, num, read_curves(block, (MULTI, *block.modalities)))
        for num in lengths
        for block in blocks(run for run in runs if run.epochs == num)
    ]
    if not found:
        raise RunError(
            "A comparison of variants needs runs that tell what they are; there is none. "
            "Train them: mla train -m experiment=projection/openmoji"
        )
    only = [block for block, _, _ in found]
    names = tuple(dict.fromkeys(name for block in only for name in block.modalities))
    columns = (MULTI, LAST, *names, EPOCH)
    legends = [LEGEND.replace("best bold", "best of a column bold")]
    legends += [PARTIAL_LEGEND] if is_partial(only, split=SPLIT) else []
    if any(run.is_finished and run.path is None for run in runs):
        legends.append("Learning curves and the last epoch need the run folders.")
    return Report(
        kind="projection",
        title="Variants compared on validation",
        warnings=notes.warnings(only),
        tables=(
            Table(
                slug="",
                title="Validation accuracy in percent, at the best epoch and at the last",
                corner="",
                columns=columns,
                sections=tuple(
                    Section(f"{block.title}, {num} epochs", _rows(block, columns, curves))
                    for block, num, curves in found
                ),
                notes=(" ".join(legends), *notes.without_number(without_number(only, runs))),
            ),
            _differences([(block, num) for block, num, _ in found]),
        ),
        notes=tuple(
            dict.fromkeys(note for block in only for note in notes.about(block, split=SPLIT))
        ),
        figures={
            f"projection-{block.slug}-{num}_epochs": partial(curves_figure, curves, block.title)
            for block, num, curves in found
            if curves.epochs
        },
    )


def without_hgm(block: Block) -> Variant | None:
    """Find the variant whose head gradient is left as it is.

    Args:
        block: The block.

    Returns:
        The column, or None where there is none or several.
    """
    found = [
        variant
        for variant in block.variants
        if variant.ablation == "no_hgm" or ("method.hgm", "false") in variant.overrides
    ]
    return found[0] if len(found) == 1 else None


def _rows(block: Block, columns: Sequence[str], curves: Curves) -> tuple[Row, ...]:
    by_column: dict[str, list[Summary]] = {}
    for name in columns:
        summaries = []
        for variant in block.variants:
            if name == EPOCH:
                summaries.append(block.summary(variant, split=SPLIT, measure="best_epoch"))
            elif name == LAST:
                summaries.append(_last(block, variant, curves))
            else:
                summaries.append(block.summary(variant, name, split=SPLIT))
        by_column[name] = summaries
    # the best of a column: here the variants are rows
    places = {
        name: ranks([_competing(v, s, name) for v, s in zip(block.variants, found, strict=True)])
        for name, found in by_column.items()
    }
    rows = []
    for line, variant in enumerate(block.variants):
        cells = []
        for name in columns:
            summary = by_column[name][line]
            is_known = summary.num or name == MULTI
            digits = 0 if name == EPOCH else 1
            cells.append(cell(summary, digits, places[name][line]) if is_known else Cell(BLANK))
        rows.append(Row(variant.label, tuple(cells)))
    return tuple(rows)


def _competing(variant: Variant, summary: Summary, name: str) -> float | None:
    is_ranked = summary.is_complete and variant.method != REFERENCE and name != EPOCH
    return summary.mean if is_ranked else None


def _last(block: Block, variant: Variant, curves: Curves) -> Summary:
    by_seed: Mapping[int, Sequence[float]] = curves.lines.get(MULTI, {}).get(variant.label, {})
    return Summary({seed: line[-1] for seed, line in by_seed.items()}, block.seeds)


def _differences(found: Sequence[tuple[Block, int]]) -> Table:
    sections = []
    for block, num in found:
        plain = without_hgm(block)
        if plain is None:
            continue
        base = block.values(plain, split=SPLIT)
        others = [v for v in block.variants if v != plain and v.method != REFERENCE]
        pairs = [(v.label, compare(block.values(v, split=SPLIT), base)) for v in others]
        kept = [pair for pair in pairs if pair[1].seeds]
        if kept:
            title = f"{block.title}, {num} epochs, against {plain.label}"
            sections.append(Section(title, comparison_rows(kept)))
    return Table(
        slug="differences",
        title="Difference in multi validation accuracy, in points",
        corner="",
        columns=COMPARISON_COLUMNS,
        sections=tuple(sections),
        notes=(COMPARISON_NOTE,),
    )
