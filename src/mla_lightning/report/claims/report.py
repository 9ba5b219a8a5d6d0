"""The paper's claims, question by question, with effect sizes, intervals and corrected tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from mla_lightning.errors import RunError
from mla_lightning.report.claims.families import (
    Family,
    all_lines,
    cured,
    left_behind,
    slower,
    weighted,
)
from mla_lightning.report.claims.rounds import ROUNDS, modified
from mla_lightning.report.claims.tables import family_table, forest, forgetting_tables, memory_table
from mla_lightning.report.document.table import Report, Table
from mla_lightning.report.read.block import Block, Variant, blocks, without_number
from mla_lightning.report.read.run import Run
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.rows import SIGNIFICANT
from mla_lightning.report.tables.tuning import rate_notes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Experiments whose runs answer: what the report calls them -> first parts of their names.
TABLE1, TABLE3, PRICE = "table1", "table3", "price"
EXPERIMENTS = {
    TABLE1: ("table1",),
    **{stage.slug: stage.names for stage in ROUNDS},
    TABLE3: ("table3",),
    PRICE: ("claims/price",),
}
#: Experiments of the same -> those in which their rates were chosen.
TUNED = {
    TABLE1: "tuning/",
    **dict.fromkeys((*(stage.slug for stage in ROUNDS), TABLE3), "claims/tuning/"),
}
NOTE = (
    "Paired by seed, two-sided t-test; p corrected by Holm over the whole table; intervals are "
    "not corrected. Effect size: mean difference over its standard deviation. Bold: corrected "
    f"p < {SIGNIFICANT}."
)


def claims(runs: Sequence[Run]) -> Report:
    """Answer the questions from runs of Table 1, Table 3 and the claims' own experiments.

    Args:
        runs: The runs. Of two runs of one cell, of which one was read from a run folder and one
            from a table of results, the folder's counts: that is how results are renewed.

    Returns:
        The report.

    Raises:
        RunError: If none of these experiments is among them, or a cell was run twice.
    """
    current = renewed(runs)
    groups = {
        kind: {block.name: block for block in _blocks(current, names)}
        for kind, names in EXPERIMENTS.items()
    }
    if not any(groups.values()):
        raise RunError(
            "The claims need runs of the experiments table1, table3 or claims; see "
            "experiments/claims. `make claims` reads the committed ones."
        )
    behind = left_behind(groups[TABLE1])
    second = cured(groups[TABLE1], behind)
    third = [family for stage in ROUNDS for family in modified(stage, groups[stage.slug])]
    fourth, fifth = weighted(groups[TABLE3]), slower(groups[PRICE])
    families = [behind, *second, *third, fourth, fifth]
    tables: list[Table] = [
        *map(family_table, (behind, *second, *third)),
        *(table for stage in ROUNDS for table in forgetting_tables(stage, groups[stage.slug])),
        *map(family_table, (fourth, fifth)),
        memory_table(groups[TABLE1]),
    ]
    found = [block for by_name in groups.values() for block in by_name.values()]
    return Report(
        "claims",
        "The paper's claims",
        tuple(table for table in tables if table.sections),
        (NOTE, *notes.without_number(without_number(found, ())), *_origins(groups, current)),
        warnings=notes.warnings(found),
        figures=_figures(families),
        runs=_own(current),
    )


def renewed(runs: Iterable[Run]) -> list[Run]:
    """Put runs from run folders in the place of earlier ones that a table of results holds.

    Args:
        runs: Any runs.

    Returns:
        Of each cell the finished runs from folders, else those from tables, else all; none twice.
    """
    by_cell: dict[object, dict[object, Run]] = {}
    for run in runs:
        by_cell.setdefault(run.key, {}).setdefault((run.path is None, run.run, run.identity), run)
    kept: list[Run] = []
    for cell in by_cell.values():
        finished = [run for run in cell.values() if run.is_finished]
        kept += [run for run in finished if run.path is not None] or finished or cell.values()
    return kept


def _blocks(runs: Iterable[Run], names: str | tuple[str, ...]) -> list[Block]:
    return blocks(run for run in runs if run.name.startswith(names))


def _own(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Choose what is written beside the report, in an order that does not depend on the inputs.

    The runs of Tables 1 and 3 and those of tuning have tables of their own.
    """
    elsewhere = (*EXPERIMENTS[TABLE1], *EXPERIMENTS[TABLE3], *TUNED.values())
    return tuple(sorted((r for r in runs if not r.name.startswith(elsewhere)), key=_place))


def _place(run: Run) -> tuple[object, ...]:
    variant = Variant(run.method, run.ablation, run.overrides)
    return run.name, variant.order, run.seed if run.seed is not None else -1, run.run


def _figures(families: Sequence[Family]) -> dict[str, Callable[[], Figure]]:
    axes = {family.figure: family.axis for family in families}
    drawn = {name: all_lines(families, name) for name in axes}
    return {
        f"claims-{name}": partial(forest, lines, axes[name])
        for name, lines in drawn.items()
        if lines
    }


def _origins(groups: dict[str, dict[str, Block]], runs: Sequence[Run]) -> Iterable[str]:
    """Say of each experiment where its numbers come from, and at which rates it ran."""
    for kind, found in groups.items():
        tuned = {b.dataset: b for b in _blocks(runs, TUNED[kind])} if kind in TUNED else {}
        for block in found.values():
            told = notes.about(block, with_settings=False)
            if block.dataset in tuned:
                told += rate_notes(block, tuned[block.dataset])
            yield from (f"{kind}, {sentence}" for sentence in told)
