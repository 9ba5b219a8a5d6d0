"""Table 3: what head gradient modification (HGM) and dynamic fusion (DF) do, alone and together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mla_lightning.errors import RunError
from mla_lightning.report.document.table import Report, Row, Section, Table
from mla_lightning.report.figures.modalities import READING, modality_figure
from mla_lightning.report.read.block import Block, blocks, without_number
from mla_lightning.report.read.paper import DATASETS, Published, read_table1, read_table3
from mla_lightning.report.read.run import MULTI, Run
from mla_lightning.report.read.variant import REFERENCE, Variant, method_label
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.rows import (
    COMPARISON_COLUMNS,
    COMPARISON_NOTE,
    LEGEND,
    PARTIAL_LEGEND,
    accuracy_row,
    comparison_rows,
    is_partial,
    not_run,
    published_row,
)
from mla_lightning.report.tables.significance import compare

METHOD = "mla"
LATE = "late_fusion"
#: Column -> ablation of MLA, in the paper's order.
GRID = {
    "neither": "no_hgm_no_df",
    "DF only": "no_hgm",
    "HGM only": "no_df",
    "HGM + DF": "none",
}
#: What an effect on multi is called, and the ablations whose difference it is.
EFFECTS = (
    ("HGM, static fusion: multi", "no_df", "no_hgm_no_df"),
    ("HGM, dynamic fusion: multi", "none", "no_hgm"),
    ("DF, without HGM: multi", "no_hgm", "no_hgm_no_df"),
    ("DF, with HGM: multi", "none", "no_df"),
)


def table3(runs: Sequence[Run]) -> Report:
    """Make Table 3.

    Args:
        runs: Runs of MLA's ablations, and of Late Fusion to stand beside them.

    Returns:
        The report.

    Raises:
        RunError: If there is no run of MLA or Late Fusion, or a cell was run twice.
    """
    wanted = (METHOD, LATE, REFERENCE)
    found = [b for b in blocks(run for run in runs if run.method in wanted) if _has_grid(b)]
    if not found:
        raise RunError(
            f"Table 3 needs runs of method={METHOD} with ablation={','.join(GRID.values())}; "
            "there is none. Train them: mla train -m experiment=table3/openmoji"
        )
    return Report(
        kind="table3",
        title="Table 3: head gradient modification (HGM) and dynamic fusion (DF)",
        warnings=notes.warnings(found),
        tables=(_accuracy(found, without_number(found, ())), _effects(found)),
        notes=tuple(note for block in found for note in notes.about(block)),
        reading=READING,
        figures={
            f"table3-{block.slug}": partial(modality_figure, block, _columns(block))
            for block in found
            if block.modalities
        },
    )


def _has_grid(block: Block) -> bool:
    return any(variant.method == METHOD for variant in block.variants)


def _columns(block: Block) -> dict[str, Variant]:
    """Find the table's columns in a block: label -> column."""
    late = block.find(LATE) or Variant(LATE)
    grid = {
        label: block.find(METHOD, name) or Variant(METHOD, name) for label, name in GRID.items()
    }
    return {method_label(LATE): late, **grid}


def _unlike(block: Block) -> list[str]:
    """Name the columns that differ from the full method in more than what their title says."""
    columns = _columns(block)
    own = columns[list(GRID)[-1]].overrides
    return [
        f"{block.title}: {title} is {column.label}."
        for title, column in columns.items()
        if column in block.cells and column.overrides not in ((), own)
    ]


def _accuracy(found: Sequence[Block], lacking: Sequence[Run]) -> Table:
    columns = (method_label(LATE), *GRID)
    of_table1, of_table3 = read_table1(), read_table3()
    sections = []
    for block in found:
        variants = list(_columns(block).values())
        rows = []
        for modality in (*block.modalities, MULTI):
            rows.append(accuracy_row(block, variants, modality, always=variants))
            published = _paper_row(of_table1, of_table3, block.dataset, modality)
            rows += [published] if published else []
        sections.append(Section(block.title, tuple(rows)))
    run = {block.dataset for block in found}
    for name in (name for name in DATASETS if name not in run):
        paper = [_paper_row(of_table1, of_table3, name, m) for m in of_table3.modalities[name]]
        kept = tuple(row for row in paper if row)
        sections.append(Section(name, kept, not_run(name, "table3"), is_terminal_only=True))
    legend = f"{LEGEND} {PARTIAL_LEGEND}" if is_partial(found) else LEGEND
    return Table(
        slug="",
        title="Test accuracy in percent",
        corner="",
        columns=columns,
        sections=tuple(sections),
        notes=(
            legend,
            *(text for block in found for text in _unlike(block)),
            *notes.without_number(lacking),
        ),
    )


def _paper_row(
    of_table1: Published, of_table3: Published, dataset: str, modality: str
) -> Row | None:
    late = of_table1.get(dataset, modality, LATE)
    grid = [of_table3.get(dataset, modality, name) for name in GRID.values()]
    return published_row(modality, [late, *grid])


def _effects(found: Sequence[Block]) -> Table:
    sections = []
    for block in found:
        columns = _columns(block)
        by_ablation = {name: columns[label] for label, name in GRID.items()}
        late_label = method_label(LATE)
        late = columns[late_label]

        def numbers(
            name: str, modality: str = MULTI, known: dict = by_ablation
        ) -> dict[int, float]:
            return block.values(known[name], modality)  # noqa: B023  used within this turn

        pairs = [(label, compare(numbers(on), numbers(off))) for label, on, off in EFFECTS]
        pairs += [
            (f"HGM, dynamic fusion: {m} alone", compare(numbers("none", m), numbers("no_hgm", m)))
            for m in block.modalities
        ]
        pairs += [
            (f"both, against {late_label}: multi", compare(numbers("none"), block.values(late))),
            (
                f"neither, against {late_label}: multi",
                compare(numbers("no_hgm_no_df"), block.values(late)),
            ),
        ]
        rows = comparison_rows([pair for pair in pairs if pair[1].seeds])
        if rows:
            sections.append(Section(block.title, rows))
    return Table(
        slug="effects",
        title="Effects on test accuracy, in points",
        corner="",
        columns=COMPARISON_COLUMNS,
        sections=tuple(sections),
        notes=(COMPARISON_NOTE,),
    )
