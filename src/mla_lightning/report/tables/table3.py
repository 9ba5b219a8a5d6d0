"""Table 3: ablation of head gradient modification (HGM) and dynamic fusion (DF)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mla_lightning.errors import RunError
from mla_lightning.report.document.table import Report, Row, Section, Table
from mla_lightning.report.figures.modalities import READING, modality_figure
from mla_lightning.report.read.block import Block, blocks, runs_without_result
from mla_lightning.report.read.paper import (
    DATASETS,
    PaperTable,
    concerns_paper,
    read_table1,
    read_table3,
)
from mla_lightning.report.read.run import MULTI, Run
from mla_lightning.report.read.significance import compare
from mla_lightning.report.read.variant import REFERENCE, Variant, method_label
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.rows import (
    COMPARISON_COLUMNS,
    COMPARISON_NOTE,
    LEGEND,
    PARTIAL_LEGEND,
    comparison_rows,
    is_partial,
    not_run,
    published_row,
    score_row,
    score_title,
    section_title,
)

METHOD = "mla"
LATE = "late_fusion"
#: Column -> ablation of MLA, in the paper's order.
GRID = {
    "neither": "no_hgm_no_df",
    "DF only": "no_hgm",
    "HGM only": "no_df",
    "HGM + DF": "none",
}
#: Label of an effect on multi, and the two ablations whose difference it is.
EFFECTS = (
    ("HGM, static fusion: multi", "no_df", "no_hgm_no_df"),
    ("HGM, dynamic fusion: multi", "none", "no_hgm"),
    ("DF, without HGM: multi", "no_hgm", "no_hgm_no_df"),
    ("DF, with HGM: multi", "none", "no_df"),
)


def table3(runs: Sequence[Run]) -> Report:
    """Make Table 3.

    Args:
        runs: Runs of MLA's ablations, and of Late Fusion for comparison.

    Returns:
        The report.

    Raises:
        RunError: If there is no run of MLA, or two runs of one variant and seed conflict.
    """
    methods = (METHOD, LATE, REFERENCE)
    table_blocks = [
        block
        for block in blocks(run for run in runs if run.method in methods)
        if any(variant.method == METHOD for variant in block.variants)
    ]
    if not table_blocks:
        raise RunError(
            f"Table 3 needs runs of method={METHOD} with ablation={','.join(GRID.values())}; "
            "there is none. Train them: mla train -m experiment=table3/openmoji"
        )
    return Report(
        kind="table3",
        title="Table 3: head gradient modification (HGM) and dynamic fusion (DF)",
        warnings=notes.warnings(table_blocks),
        tables=(
            _score_table(table_blocks, runs_without_result(table_blocks, ())),
            _effects_table(table_blocks),
        ),
        notes=tuple(note for block in table_blocks for note in notes.block_notes(block)),
        reading=READING,
        figures={
            f"table3-{block.slug}": partial(modality_figure, block, _columns(block))
            for block in table_blocks
            if block.modalities
        },
    )


def _columns(block: Block) -> dict[str, Variant]:
    """Return the variant of each column of the table."""
    late = block.find(LATE) or Variant(LATE)
    grid = {
        label: block.find(METHOD, name) or Variant(METHOD, name) for label, name in GRID.items()
    }
    return {method_label(LATE): late, **grid}


def _settings_notes(block: Block) -> list[str]:
    """Return a note per column with other overrides than the column of the full method."""
    columns = _columns(block)
    overrides = columns[list(GRID)[-1]].overrides
    return [
        f"{block.title}: column {title} shows {variant.label}."
        for title, variant in columns.items()
        if variant in block.runs_by_variant and variant.overrides not in ((), overrides)
    ]


def _score_table(table_blocks: Sequence[Block], without_result: Sequence[Run]) -> Table:
    paper_table1, paper_table3 = read_table1(), read_table3()
    sections = []
    for block in table_blocks:
        variants = list(_columns(block).values())
        rows = []
        for modality in (*block.modalities, MULTI):
            rows.append(score_row(block, variants, modality, always=variants))
            published = _paper_row(paper_table1, paper_table3, block.dataset, modality)
            rows += [published] if published else []
        sections.append(Section(section_title(block, table_blocks), tuple(rows)))
    datasets = {block.dataset for block in table_blocks}
    others = [name for name in DATASETS if name not in datasets]
    beside_paper = concerns_paper({block.dataset for block in table_blocks if not block.task})
    for name in others if beside_paper else ():
        modalities = paper_table3.modalities[name]
        paper_rows = [_paper_row(paper_table1, paper_table3, name, m) for m in modalities]
        rows = [row for row in paper_rows if row]
        sections.append(Section(name, tuple(rows), not_run(name, "table3"), is_terminal_only=True))
    legend = f"{LEGEND} {PARTIAL_LEGEND}" if is_partial(table_blocks) else LEGEND
    return Table(
        slug="",
        title=score_title(table_blocks, "Test"),
        corner="",
        columns=(method_label(LATE), *GRID),
        sections=tuple(sections),
        notes=(
            legend,
            *(note for block in table_blocks for note in _settings_notes(block)),
            *notes.missing_result_notes(without_result),
        ),
    )


def _paper_row(
    paper_table1: PaperTable, paper_table3: PaperTable, dataset: str, modality: str
) -> Row | None:
    late = paper_table1.get(dataset, modality, LATE)
    grid = [paper_table3.get(dataset, modality, name) for name in GRID.values()]
    return published_row(modality, [late, *grid])


def _effects_table(table_blocks: Sequence[Block]) -> Table:
    sections = [
        Section(section_title(block, table_blocks, is_difference=True), rows)
        for block in table_blocks
        if (rows := _effect_rows(block))
    ]
    return Table(
        slug="effects",
        title=score_title(table_blocks, "Effects on test", is_difference=True),
        corner="",
        columns=COMPARISON_COLUMNS,
        sections=tuple(sections),
        notes=(COMPARISON_NOTE,),
    )


def _effect_rows(block: Block) -> tuple[Row, ...]:
    columns = _columns(block)
    by_ablation = {name: columns[label] for label, name in GRID.items()}
    late_label = method_label(LATE)
    late = block.values(columns[late_label])

    def values(ablation: str, modality: str = MULTI) -> dict[int, float]:
        return block.values(by_ablation[ablation], modality)

    pairs = [(label, compare(values(on), values(off))) for label, on, off in EFFECTS]
    pairs += [
        (f"HGM, dynamic fusion: {m}", compare(values("none", m), values("no_hgm", m)))
        for m in block.modalities
    ]
    pairs += [
        (f"HGM + DF, compared with {late_label}: multi", compare(values("none"), late)),
        (f"neither, compared with {late_label}: multi", compare(values("no_hgm_no_df"), late)),
    ]
    return comparison_rows([pair for pair in pairs if pair[1].seeds], block.metric.digits)
