"""What averaged weights change: every method with and without them, on the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from mla_lightning.report.document.table import Table, signed
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.run import Run
from mla_lightning.report.tables.asked import (
    BETTER,
    PLAIN,
    WORSE,
    Answer,
    contenders,
    margin_of,
)
from mla_lightning.report.tables.benchmark_tables import difference_sections
from mla_lightning.report.tables.rows import COMPARISON_COLUMNS
from mla_lightning.report.tables.significance import compare, holm

#: The setting that averages weights.
KEY = "trainer.ema"


def split_runs(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Split runs into those without and with averaged weights.

    Args:
        runs: The runs.

    Returns:
        The runs without it and the runs with it; these no longer name the setting, so that both
        have the same methods. If all or none have it there is nothing to compare, and with several
        decays each is a method of its own: all are the first ones then, as they are.
    """
    plain = [run for run in runs if KEY not in dict(run.overrides)]
    averaged = [run for run in runs if KEY in dict(run.overrides)]
    decays = {dict(run.overrides)[KEY] for run in averaged}
    if not plain or len(decays) != 1:
        return list(runs), []
    return plain, [
        replace(run, overrides=tuple(pair for pair in run.overrides if pair[0] != KEY))
        for run in averaged
    ]


def averaged_answers(plain: Sequence[Block], averaged: Sequence[Block]) -> list[Answer]:
    """Compare every method with averaged weights to itself without, on every data set.

    Args:
        plain: The data sets' runs without averaged weights.
        averaged: Those with.

    Returns:
        The answers; Holm's correction is over all methods and data sets.
    """
    found = []
    of_data = {_data_of(block): block for block in averaged}
    for block in plain:
        other = of_data.get(_data_of(block))
        if other is None:
            continue
        for variant in contenders(block):
            values = other.values(variant) if variant in other.variants else {}
            if values:
                pair = block.metric.better_first(values, block.values(variant))
                found.append((block, variant, compare(*pair)))
    corrected = holm([comparison.p for _, _, comparison in found])
    return [
        Answer(block, variant, PLAIN, comparison, p, margin_of(block))
        for (block, variant, comparison), p in zip(found, corrected, strict=True)
    ]


def _data_of(block: Block) -> tuple[str, str, str, str]:
    """Return what all runs of a block have in common, and those of no other block."""
    return block.dataset, block.task, block.data_split, block.protocol


def averaged_table(table_blocks: Sequence[Block], found: Sequence[Answer]) -> Table:
    """Make the table of what averaged weights change, a section per data set."""
    return Table(
        slug="averaged",
        title="Averaged weights: differences to the same method without, positive is better",
        corner="",
        columns=COMPARISON_COLUMNS,
        sections=difference_sections(table_blocks, found),
        notes=(
            "Runs of the same seeds and settings, with an exponential moving average of the "
            "weights that is validated, selected and tested in their place. Two-sided paired "
            "t-test; p corrected: Holm correction over all methods and data sets of this table.",
        ),
    )


def averaged_sentences(table_blocks: Sequence[Block], found: Sequence[Answer]) -> list[str]:
    """Return what averaged weights change, a line of a Markdown list per data set.

    Args:
        table_blocks: The data sets.
        found: The answers of :func:`averaged_answers`.
    """
    lines = []
    for block in table_blocks:
        here = [answer for answer in found if answer.block is block]
        means = [a.comparison.mean for a in here if a.comparison.mean is not None]
        if not means:
            continue
        mean, low, high = (
            signed(value, block.metric.digits) for value in (fmean(means), min(means), max(means))
        )
        parts = []
        for verdict in (BETTER, WORSE):
            names = ", ".join(a.variant.label for a in here if a.verdict == verdict)
            parts.append(f"significantly {verdict}: {names or 'none'}")
        lines.append(
            f"- {block.title}: averaged weights change a method by {mean} on average ({low} to "
            f"{high}; {len(here)} methods); {'; '.join(parts)}."
        )
    return lines
