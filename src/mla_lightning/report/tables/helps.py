"""What generic helps change: every method with and without them, on the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from mla_lightning.report.document.table import Table, signed
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.run import Run
from mla_lightning.report.tables.asked import BETTER, WORSE, Answer, contenders, margin_of
from mla_lightning.report.tables.benchmark_tables import difference_sections
from mla_lightning.report.tables.rows import COMPARISON_COLUMNS
from mla_lightning.report.tables.significance import compare, holm


@dataclass(frozen=True)
class Help:
    """A setting that any method can have, whatever its training rule.

    Attributes:
        slug: Short name for files and tables.
        key: The setting; runs without it are those without the help.
        name: Its name in sentences, in the plural.
        how: What it does, for the note of its table.

    Example:
        >>> [help_.key for help_ in HELPS]
        ['trainer.ema', 'trainer.snapshots']
    """

    slug: str
    key: str
    name: str
    how: str


HELPS = (
    Help(
        "averaged",
        "trainer.ema",
        "averaged weights",
        "with an exponential moving average of the weights that is validated, selected and tested "
        "in their place",
    ),
    Help(
        "snapshots",
        "trainer.snapshots",
        "snapshot ensembles",
        "with the learning rate falling in each of several equal parts of the training, whose "
        "models at their ends answer together",
    ),
)


def split_runs(runs: Sequence[Run]) -> tuple[list[Run], dict[Help, list[Run]]]:
    """Split runs into those without help and those with each help.

    Args:
        runs: The runs.

    Returns:
        The runs without, and help -> the runs with it; these no longer name its setting, so that
        all have the same methods. If all runs have a help there is nothing to compare it with, and
        with several values of its setting each is a method of its own: its runs are then among the
        first ones, as they are.
    """
    plain, helped = list(runs), {}
    for help_ in HELPS:
        values = {value for run in runs if (value := _value(help_, run))}
        without = [run for run in plain if not _value(help_, run)]
        if without and len(values) == 1:
            helped[help_] = [_without(help_, run) for run in plain if _value(help_, run)]
            plain = [_without(help_, run) for run in without]
    return plain, helped


def _value(help_: Help, run: Run) -> str:
    """Return the value of a help's setting, empty for none."""
    value = dict(run.overrides).get(help_.key, "null")
    return "" if value == "null" else value


def _without(help_: Help, run: Run) -> Run:
    pairs = tuple(pair for pair in run.overrides if pair[0] != help_.key)
    return replace(run, overrides=pairs)


def help_answers(help_: Help, plain: Sequence[Block], helped: Sequence[Block]) -> list[Answer]:
    """Compare every method with a help to itself without, on every data set.

    Args:
        help_: The help.
        plain: The data sets' runs without it.
        helped: Those with.

    Returns:
        The answers; Holm's correction is over all methods and data sets.
    """
    found = []
    of_data = {_data_of(block): block for block in helped}
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
        Answer(block, variant, help_.slug, comparison, p, margin_of(block))
        for (block, variant, comparison), p in zip(found, corrected, strict=True)
    ]


def _data_of(block: Block) -> tuple[str, str, str, str]:
    """Return what all runs of a block have in common, and those of no other block."""
    return block.dataset, block.task, block.data_split, block.protocol


def help_table(help_: Help, table_blocks: Sequence[Block], found: Sequence[Answer]) -> Table:
    """Make the table of what a help changes, a section per data set."""
    name = help_.name.capitalize()
    return Table(
        slug=help_.slug,
        title=f"{name}: differences to the same method without, positive is better",
        corner="",
        columns=COMPARISON_COLUMNS,
        sections=difference_sections(table_blocks, found),
        notes=(
            f"Runs of the same seeds and settings, {help_.how}. Two-sided paired t-test; p "
            "corrected: Holm correction over all methods and data sets of this table.",
        ),
    )


def help_sentences(
    help_: Help, table_blocks: Sequence[Block], found: Sequence[Answer]
) -> list[str]:
    """Return what a help changes, a line of a Markdown list per data set.

    Args:
        help_: The help.
        table_blocks: The data sets.
        found: The answers of :func:`help_answers`.
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
            f"- {block.title}: {help_.name} change a method by {mean} on average ({low} to "
            f"{high}; {len(here)} methods); {'; '.join(parts)}."
        )
    return lines
