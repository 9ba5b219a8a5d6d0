"""Report on the paper's claims: five questions, with effect sizes and corrected tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from experiments.claims.answers import answers
from experiments.claims.families import (
    Family,
    alternation_families,
    epoch_time_family,
    joint_training_family,
    lines_of_figure,
    weighting_family,
)
from experiments.claims.rounds import ROUNDS, modification_families
from experiments.claims.tables import family_table, forest_plot, forgetting_tables, memory_table
from mla_lightning.errors import RunError
from mla_lightning.report.document.table import Report, Table
from mla_lightning.report.read.block import Block, blocks, runs_without_result
from mla_lightning.report.read.run import Run
from mla_lightning.report.read.significance import SIGNIFICANT
from mla_lightning.report.read.variant import Variant
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.tuning import rate_notes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Group of experiments -> prefixes of their names.
TABLE1, TABLE3, PRICE = "table1", "table3", "price"
EXPERIMENTS = {
    TABLE1: ("table1",),
    **{round_.slug: round_.prefixes for round_ in ROUNDS},
    TABLE3: ("table3",),
    PRICE: ("claims/price",),
}
#: Group of experiments -> prefix of the experiments that chose their learning rates.
TUNED = {
    TABLE1: "tuning/",
    **dict.fromkeys((*(round_.slug for round_ in ROUNDS), TABLE3), "claims/tuning/"),
}
NOTE = (
    "Two-sided paired t-test over seeds; p corrected by Holm's method over each table. Intervals "
    "are confidence intervals and not corrected. Effect size: mean difference divided by the "
    "standard deviation of the differences. Bold: significant, that is corrected "
    f"p < {SIGNIFICANT}."
)


def claims_report(runs: Sequence[Run]) -> Report:
    """Build the report from runs of Table 1, Table 3 and the experiments of the claims.

    Args:
        runs: The runs. If a run was read both from a run folder and from ``results.csv``, the run
            folder counts, so that new runs replace committed ones.

    Returns:
        The report.

    Raises:
        RunError: If no run belongs to these experiments, or two runs have the same cell.
    """
    current = replace_repeated(runs)
    groups = {
        group: {block.name: block for block in _blocks(current, prefixes)}
        for group, prefixes in EXPERIMENTS.items()
    }
    if not any(groups.values()):
        raise RunError(
            "The report on the claims needs runs of the experiments table1, table3 or claims; see "
            "experiments/claims/README.md. `make claims` reads the committed results."
        )
    first = joint_training_family(groups[TABLE1])
    second = alternation_families(groups[TABLE1], first)
    third = [
        family for round_ in ROUNDS for family in modification_families(round_, groups[round_.slug])
    ]
    fourth, fifth = weighting_family(groups[TABLE3]), epoch_time_family(groups[PRICE])
    families = [first, *second, *third, fourth, fifth]
    tables: list[Table] = [
        *map(family_table, (first, *second, *third)),
        *(table for round_ in ROUNDS for table in forgetting_tables(round_, groups[round_.slug])),
        *map(family_table, (fourth, fifth)),
        memory_table(groups[TABLE1]),
    ]
    all_blocks = [block for by_name in groups.values() for block in by_name.values()]
    return Report(
        "claims",
        "The paper's claims",
        tuple(table for table in tables if table.sections),
        (
            NOTE,
            *notes.missing_result_notes(runs_without_result(all_blocks, ())),
            *_origins(groups, current),
        ),
        warnings=notes.warnings(all_blocks),
        figures=_figures(families),
        captions=_captions(families),
        texts={"answers.md": answers(families)},
        runs=_written_runs(current),
    )


def replace_repeated(runs: Iterable[Run]) -> list[Run]:
    """Replace runs that were read from ``results.csv`` by new runs of the same cell.

    Args:
        runs: Any runs.

    Returns:
        For each cell the finished runs from run folders, otherwise the finished ones from
        ``results.csv``, otherwise all; without duplicates.
    """
    by_cell: dict[object, dict[object, Run]] = {}
    for run in runs:
        by_cell.setdefault(run.key, {}).setdefault((run.path is None, run.run, run.identity), run)
    current: list[Run] = []
    for cell in by_cell.values():
        finished = [run for run in cell.values() if run.is_finished]
        current += [run for run in finished if run.path is not None] or finished or cell.values()
    return current


def _blocks(runs: Iterable[Run], prefixes: str | tuple[str, ...]) -> list[Block]:
    return blocks(run for run in runs if run.name.startswith(prefixes))


def _written_runs(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Return the runs to write to ``results.csv``, in an order independent of the inputs.

    Runs of Tables 1 and 3 and of tuning have files of their own.
    """
    other_prefixes = (*EXPERIMENTS[TABLE1], *EXPERIMENTS[TABLE3], *TUNED.values())
    return tuple(sorted((r for r in runs if not r.name.startswith(other_prefixes)), key=_sort_key))


def _sort_key(run: Run) -> tuple[object, ...]:
    variant = Variant(run.method, run.ablation, run.overrides)
    return run.name, variant.sort_key, run.seed if run.seed is not None else -1, run.run


def _figures(families: Sequence[Family]) -> dict[str, Callable[[], Figure]]:
    axes = {family.figure: family.axis for family in families}
    by_figure = {name: lines_of_figure(families, name) for name in axes}
    return {
        f"claims-{name}": partial(forest_plot, lines, axes[name])
        for name, lines in by_figure.items()
        if lines
    }


def _origins(groups: dict[str, dict[str, Block]], runs: Sequence[Run]) -> Iterable[str]:
    """Yield sentences on the origin of each group's numbers and on its learning rates."""
    for group, by_name in groups.items():
        tuned = {b.dataset: b for b in _blocks(runs, TUNED[group])} if group in TUNED else {}
        for block in by_name.values():
            sentences = notes.block_notes(block, with_settings=False)
            if block.dataset in tuned:
                sentences += rate_notes(block, tuned[block.dataset])
            yield from (f"{group}, {sentence}" for sentence in sentences)


def _captions(families: Sequence[Family]) -> dict[str, str]:
    """Return name of a figure -> the titles of the families that it shows."""
    titles: dict[str, list[str]] = {}
    for family in families:
        if family.lines:
            titles.setdefault(f"claims-{family.figure}", []).append(family.title)
    return {name: "; ".join(shown) + "." for name, shown in titles.items()}
