"""The benchmark: all methods under one budget, against four references, on several data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from mla_lightning.report.tables.across import Ranks, cliques, detectable_effect, rank_methods
from mla_lightning.report.tables.add_ons import (
    AddOn,
    add_on_answers,
    add_on_sentences,
    add_on_table,
    split_runs,
)
from mla_lightning.report.tables.asked import (
    ASKED,
    BETTER,
    WORSE,
    Answer,
    answers,
    asked_label,
    by_method,
    contenders,
    is_winner,
)
from mla_lightning.report.tables.benchmark_tables import (
    across_tables,
    comparison_table,
    complete_methods,
    cost_tables,
    detectable_table,
    mean_scores,
    order_of,
    paired_sd,
    score_table,
    verdict_table,
)
from mla_lightning.report.tables.levers import balancing_sentences, lever_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    asked = {name: found for name in ASKED if (found := answers(table_blocks, name))}
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
            detectable_table(table_blocks, asked),
            *cost_tables(table_blocks, order),
            *(comparison_table(table_blocks, found) for found in asked.values()),
        ),
        notes=tuple(note for block in table_blocks for note in notes.block_notes(block)),
        reading=(
            "Each dot is the mean difference to the reference, each bar its 95 % interval. Blue is "
            "significantly better, orange significantly worse, grey neither; within the grey band "
            "a difference does not matter in practice."
        ),
        figures=figures,
        texts={
            "answers.md": "".join(
                f"{line}\n"
                for line in (
                    *sentences(table_blocks, asked),
                    *balancing_sentences(table_blocks, asked),
                    *(
                        line
                        for add_on, found in changes.items()
                        for line in add_on_sentences(add_on, table_blocks, found)
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
    asked = {name: found for name in ASKED if (found := answers(with_it, name))}
    title = f"All with {add_on.name}, compared with the references"
    verdicts = verdict_table(asked, order, len(with_it))
    return [
        add_on_table(add_on, table_blocks, changes),
        *([replace(verdicts, slug=f"verdicts-{add_on.slug}", title=title)] if asked else []),
    ]


def sentences(table_blocks: Sequence[Block], asked: Mapping[str, Sequence[Answer]]) -> list[str]:
    """Return what the benchmark says, one claim per line.

    Args:
        table_blocks: The blocks.
        asked: Reference -> answers.

    Returns:
        Lines of a Markdown list.
    """
    num = len(table_blocks)
    lines = []
    for name, found in asked.items():
        methods = by_method(found)
        winners = [v.label for v, of_method in methods.items() if is_winner(of_method, num)]
        losers = [
            v.label
            for v, of_method in methods.items()
            if WORSE in [a.verdict for a in of_method]
            and BETTER not in [a.verdict for a in of_method]
        ]
        label = asked_label(name)
        better = ", ".join(winners) if winners else "none"
        elsewhere = " somewhere and better nowhere" if num > 1 else ""
        where = f" on two or more of {num} data sets and worse on none" if num > 1 else ""
        lines.append(
            f"- Significantly better than {label}{where}: {better} (of {len(methods)} methods)."
        )
        if losers:
            lines.append(f"- Significantly worse than {label}{elsewhere}: {', '.join(losers)}.")
    for block in table_blocks:
        sd, num_seeds = paired_sd(block), len(block.seeds)
        if sd is not None and num_seeds > 1:
            tests = max(1, len(asked.get("concat", ())))
            effect = detectable_effect(sd, num_seeds, tests)
            lines.append(
                f"- {block.title}: a true difference to Concat of {effect:.1f} would have been "
                f"found in 80 of 100 experiments; smaller ones may exist and not be seen."
            )
    return lines


def _ranks(
    table_blocks: Sequence[Block], methods: Sequence[Variant]
) -> tuple[list[str], Ranks, list[tuple[int, int]], int] | None:
    """Return labels, ranks, groups and number of data sets of the diagram; None for none."""
    if len(table_blocks) < 2 or len(methods) < 2:
        return None
    ranks_ = rank_methods(mean_scores(table_blocks, methods))
    groups = cliques(sorted(ranks_.means), ranks_.critical_difference)
    return [variant.label for variant in methods], ranks_, groups, len(table_blocks)
