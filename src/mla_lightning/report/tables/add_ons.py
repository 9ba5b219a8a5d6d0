"""What settings for any method change: every method with and without them, on the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from mla_lightning.report.document.table import Table, signed
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.run import Run
from mla_lightning.report.read.significance import compare, holm
from mla_lightning.report.tables.asked import BETTER, WORSE, Answer, contenders, margin_of
from mla_lightning.report.tables.benchmark_tables import difference_sections
from mla_lightning.report.tables.rows import COMPARISON_COLUMNS


@dataclass(frozen=True)
class AddOn:
    """A setting that any method can have, whatever its training rule.

    Attributes:
        slug: Short name for files and tables.
        key: The setting; runs without it are those without it.
        name: Its name in sentences, in the plural.
        how: What it does, for the note of its table.

    Example:
        >>> [add_on.key for add_on in ADD_ONS]
        ['trainer.ema', 'trainer.snapshots']
    """

    slug: str
    key: str
    name: str
    how: str


ADD_ONS = (
    AddOn(
        "averaged",
        "trainer.ema",
        "averaged weights",
        "with an exponential moving average of the weights that is validated, selected and tested "
        "in their place",
    ),
    AddOn(
        "snapshots",
        "trainer.snapshots",
        "snapshot ensembles",
        "with the learning rate falling in each of several equal parts of the training, and the "
        "logits of the models at their ends averaged",
    ),
)


def split_runs(runs: Sequence[Run]) -> tuple[list[Run], dict[AddOn, list[Run]]]:
    """Split runs into those without an add-on and those with each of them.

    Args:
        runs: The runs.

    Returns:
        The runs without, and add-on -> the runs with it; these no longer name its setting, so that
        all have the same methods. If all runs have an add-on there is nothing to compare it with,
        and with several values of its setting each is a method of its own: its runs are then among
        the first ones, as they are.
    """
    plain, with_it = list(runs), {}
    for add_on in ADD_ONS:
        values = {value for run in runs if (value := _value(add_on, run))}
        without = [run for run in plain if not _value(add_on, run)]
        if without and len(values) == 1:
            with_it[add_on] = [_without(add_on, run) for run in plain if _value(add_on, run)]
            plain = [_without(add_on, run) for run in without]
    return plain, with_it


def _value(add_on: AddOn, run: Run) -> str:
    """Return the value of an add-on's setting, empty for none."""
    value = dict(run.overrides).get(add_on.key, "null")
    return "" if value == "null" else value


def _without(add_on: AddOn, run: Run) -> Run:
    pairs = tuple(pair for pair in run.overrides if pair[0] != add_on.key)
    return replace(run, overrides=pairs)


def add_on_answers(add_on: AddOn, plain: Sequence[Block], with_it: Sequence[Block]) -> list[Answer]:
    """Compare every method with an add-on to itself without, on every data set.

    Args:
        add_on: The add-on.
        plain: The data sets' runs without it.
        with_it: Those with.

    Returns:
        The answers; Holm's correction is over all methods and data sets.
    """
    found = []
    of_data = {_data_of(block): block for block in with_it}
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
        Answer(block, variant, add_on.slug, comparison, p, margin_of(block))
        for (block, variant, comparison), p in zip(found, corrected, strict=True)
    ]


def _data_of(block: Block) -> tuple[str, str, str, str]:
    """Return what all runs of a block have in common, and those of no other block."""
    return block.dataset, block.task, block.data_split, block.protocol


def add_on_table(add_on: AddOn, table_blocks: Sequence[Block], found: Sequence[Answer]) -> Table:
    """Make the table of what an add-on changes, a section per data set."""
    name = add_on.name.capitalize()
    return Table(
        slug=add_on.slug,
        title=f"{name}: differences to the same method without, positive is better",
        corner="",
        columns=COMPARISON_COLUMNS,
        sections=difference_sections(table_blocks, found),
        notes=(
            f"Runs of the same seeds and settings, {add_on.how}. Two-sided paired t-test; p "
            "corrected: Holm correction over all methods and data sets of this table.",
        ),
    )


def add_on_sentences(
    add_on: AddOn, table_blocks: Sequence[Block], found: Sequence[Answer]
) -> list[str]:
    """Return what an add-on changes, a line of a Markdown list per data set.

    Args:
        add_on: The add-on.
        table_blocks: The data sets.
        found: The answers of :func:`add_on_answers`.
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
            names = ", ".join(a.variant.label for a in here if a.direction == verdict)
            parts.append(f"significantly {verdict}: {names or 'none'}")
        lines.append(
            f"- {block.title}: {add_on.name} change a method by {mean} on average ({low} to "
            f"{high}; {len(here)} methods); {'; '.join(parts)}."
        )
    return lines
