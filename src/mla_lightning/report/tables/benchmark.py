"""The benchmark: all methods under one budget, against four references, on several data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from mla_lightning.errors import RunError
from mla_lightning.report.document.table import Report, Table
from mla_lightning.report.figures.benchmark import cost_figure, difference_figure, rank_figure
from mla_lightning.report.read.block import Block, blocks
from mla_lightning.report.read.run import Run
from mla_lightning.report.read.variant import Variant
from mla_lightning.report.tables import notes
from mla_lightning.report.tables.across import Ranks, cliques, rank_methods
from mla_lightning.report.tables.add_ons import (
    AddOn,
    add_on_answers,
    add_on_sentences,
    add_on_table,
    split_runs,
)
from mla_lightning.report.tables.answer_lines import other_lines, winner_lines
from mla_lightning.report.tables.asked import (
    ASKED,
    SINGLE,
    Answer,
    answers,
    asked_label,
    contenders,
)
from mla_lightning.report.tables.benchmark_tables import (
    across_tables,
    comparison_table,
    complete_methods,
    cost_tables,
    mean_scores,
    order_of,
    score_table,
    verdict_table,
)
from mla_lightning.report.tables.beside import (
    dominance_sentences,
    measure_tables,
    simple_sentences,
    strength_table,
)
from mla_lightning.report.tables.detectable import (
    detectable,
    detectable_sentences,
    detectable_table,
)
from mla_lightning.report.tables.levers import balancing_sentences, lever_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Caption of the figures of cost.
FRONT = "Black, connected: no other method is both cheaper and better."
#: Methods of the diagram of ranks, named in advance: of many methods, ranks separate none.
RANKED = (
    *("concat", "joint_unimodal", "late_fusion", "ogm_ge", "mmpareto", "mla", "umt"),
    *("reconboost", "simbamm", "ensemble"),
)


def benchmark(runs: Sequence[Run]) -> Report:
    """Make the report of the benchmark.

    Args:
        runs: Runs of several methods, seeds and data sets.

    Returns:
        The report.

    Raises:
        RunError: If no run states what it is a run of, or two runs of one variant and seed
            conflict.
    """
    plain, with_add_on = split_runs(runs)
    table_blocks = blocks(plain)
    with_it = {add_on: blocks(of_add_on) for add_on, of_add_on in with_add_on.items()}
    if not any(contenders(block) for block in table_blocks):
        raise RunError(
            "The benchmark needs runs of methods; there is none. Train them: "
            "mla train -m experiment=benchmark/openmoji"
        )
    asked = _ask(table_blocks)
    could_be_seen = detectable(table_blocks, asked)
    ranked = complete_methods(table_blocks)
    order = order_of(table_blocks, ranked)
    figures: dict[str, Callable[[], Figure]] = {
        f"benchmark-versus-{name}": partial(
            difference_figure, table_blocks, found, order, asked_label(name)
        )
        for name, found in asked.items()
    }
    changes = {
        add_on: found
        for add_on, of_add_on in with_it.items()
        if (found := add_on_answers(add_on, table_blocks, of_add_on))
    }
    for add_on, found in changes.items():
        without = f"the same method without {add_on.name}"
        figures[f"benchmark-{add_on.slug}"] = partial(
            difference_figure, table_blocks, found, order, without
        )
    diagram = _ranks(table_blocks, [v for v in ranked if v in map(Variant, RANKED)])
    if diagram is not None:
        figures["benchmark-ranks"] = partial(rank_figure, *diagram)
    figures["benchmark-cost"] = partial(cost_figure, table_blocks)
    if any(run.train_gflop for block in table_blocks for run in block.runs):
        figures["benchmark-flops"] = partial(cost_figure, table_blocks, "train_gflop")
    return Report(
        kind="benchmark",
        title="Benchmark: every method against the references",
        warnings=notes.warnings(table_blocks),
        tables=(
            score_table(table_blocks, order, plain),
            verdict_table(asked, order, len(table_blocks)),
            *lever_table(table_blocks, asked),
            *(
                table
                for add_on, found in changes.items()
                for table in _add_on_tables(add_on, table_blocks, with_it[add_on], found, order)
            ),
            *across_tables(table_blocks, ranked),
            detectable_table(could_be_seen),
            *strength_table(table_blocks),
            *measure_tables(table_blocks, order),
            *cost_tables(table_blocks, order),
            *(comparison_table(table_blocks, found) for found in asked.values()),
        ),
        notes=tuple(note for block in table_blocks for note in notes.block_notes(block)),
        reading=(
            "Each dot is the mean difference to the reference, each bar its 95 % interval. Blue is "
            "significantly better, orange significantly worse, grey neither; within the grey band "
            "a difference does not matter in practice. The scales of the data sets differ."
        ),
        captions={
            "benchmark-ranks": (
                "Mean rank over the data sets, 1 for the best. A bar at the right spans methods "
                "that Nemenyi's test does not separate."
            ),
            "benchmark-cost": f"Score over the time of a run. {FRONT}",
            "benchmark-flops": f"Score over the FLOPs of a run. {FRONT}",
        },
        figures=figures,
        texts={
            "answers.md": "".join(
                f"{line}\n"
                for line in (
                    *winner_lines(asked, len(table_blocks)),
                    *other_lines(asked, len(table_blocks)),
                    *simple_sentences(table_blocks),
                    *balancing_sentences(table_blocks, asked),
                    *dominance_sentences(table_blocks),
                    *detectable_sentences(could_be_seen),
                    *(
                        line
                        for add_on, found in changes.items()
                        for line in (
                            *add_on_sentences(add_on, table_blocks, found),
                            *_add_on_winners(add_on, with_it[add_on]),
                        )
                    ),
                )
            )
        },
    )


def _add_on_tables(
    add_on: AddOn,
    table_blocks: Sequence[Block],
    with_it: Sequence[Block],
    changes: Sequence[Answer],
    order: Sequence[Variant],
) -> list[Table]:
    """Return what an add-on changes, and the verdicts among methods that all have it."""
    asked = _ask(with_it)
    title = f"All with {add_on.name}, compared with the references"
    verdicts = verdict_table(asked, order, len(with_it))
    return [
        add_on_table(add_on, table_blocks, changes),
        *([replace(verdicts, slug=f"verdicts-{add_on.slug}", title=title)] if asked else []),
    ]


def _ask(table_blocks: Sequence[Block]) -> dict[str, list[Answer]]:
    """Return reference -> its comparisons with all methods; none of a reference without runs."""
    return {name: found for name in ASKED if (found := answers(table_blocks, name))}


def _add_on_winners(add_on: AddOn, with_it: Sequence[Block]) -> list[str]:
    """Return what is better than a multimodal reference where all have an add-on."""
    multimodal = {name: found for name, found in _ask(with_it).items() if name != SINGLE}
    return winner_lines(multimodal, len(with_it), f"With {add_on.name} for every method, ")


def _ranks(
    table_blocks: Sequence[Block], methods: Sequence[Variant]
) -> tuple[list[str], Ranks, list[tuple[int, int]], int] | None:
    """Return labels, ranks, groups and number of data sets of the diagram; None for none."""
    if len(table_blocks) < 2 or len(methods) < 2:
        return None
    ranks_ = rank_methods(mean_scores(table_blocks, methods))
    groups = cliques(sorted(ranks_.means), ranks_.critical_difference)
    return [variant.label for variant in methods], ranks_, groups, len(table_blocks)
