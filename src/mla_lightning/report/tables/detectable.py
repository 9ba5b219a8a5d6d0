"""How large a difference to a reference could have been seen, and how large one is possible."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mla_lightning.report.document.table import BLANK, Cell, Row, Section, Table
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.significance import binomial_error, compare, least_effect
from mla_lightning.report.tables.across import detectable_effect
from mla_lightning.report.tables.asked import Answer, asked_label, contenders, values_of


@dataclass(frozen=True)
class Detectable:
    """What the runs of one data set could show of differences to one reference.

    Attributes:
        block: The runs of the data set.
        reference: The reference.
        level: Its mean score.
        sd: Standard deviation of the paired differences to it, the median over methods.
        least: A true difference of this size is significant in about half of all experiments.
        effect: A true difference of this size is significant in 80 of 100 experiments.
        room: The largest possible gain; None where scores have no upper end.
    """

    block: Block
    reference: str
    level: float
    sd: float
    least: float
    effect: float
    room: float | None


def detectable(
    table_blocks: Sequence[Block], asked: Mapping[str, Sequence[Answer]]
) -> list[Detectable]:
    """Compute what could be seen, for each reference and data set with several seeds.

    Args:
        table_blocks: The data sets.
        asked: Reference -> answers, whose number is that of the tests of its correction.
    """
    found = []
    for reference, answers in asked.items():
        for block in table_blocks:
            sd, num_seeds = paired_sd(block, reference), len(block.seeds)
            if sd is None or num_seeds < 2:
                continue
            tests = max(1, len(answers))
            level = statistics.fmean(values_of(block, reference).values())
            has_end = block.metric.percent and not block.metric.lower_is_better
            found.append(
                Detectable(
                    *(block, reference, level, sd),
                    least=sd * least_effect(num_seeds, tests, 0.05),
                    effect=detectable_effect(sd, num_seeds, tests),
                    room=100 - level if has_end else None,
                )
            )
    return found


def paired_sd(block: Block, reference: str) -> float | None:
    """Return the median, over methods, of the standard deviation of differences to a reference."""
    others = values_of(block, reference)
    sds = [
        comparison.sd
        for variant in contenders(block)
        if variant != block.find(reference)
        and (comparison := compare(block.values(variant), others)).sd
    ]
    return statistics.median(sds) if sds else None


def detectable_table(found: Sequence[Detectable]) -> Table:
    """Make the table of the differences that the number of runs could have shown.

    Args:
        found: What :func:`detectable` returned.
    """
    sections = []
    for reference in dict.fromkeys(one.reference for one in found):
        rows = [_row(one) for one in found if one.reference == reference]
        sections.append(Section(f"to {asked_label(reference)}", tuple(rows)))
    return Table(
        slug="detectable",
        title="How large a difference could have been seen",
        corner="",
        columns=(
            "sd of paired differences",
            "smallest significant",
            "found with 80 % power",
            "largest possible gain",
            "standard error of the test split",
            "seeds",
        ),
        sections=tuple(sections),
        notes=(
            "The first column is the median over methods. A true difference as large as the second "
            "is significant in about half of all experiments, one as large as the third in 80 of "
            "100, after the correction over all methods and data sets of a reference. Where the "
            "largest possible gain is not much larger, that a method is not better says little. "
            "The training and test splits and the settings are fixed: how the results would differ "
            "with others is not in these numbers, nor in the intervals of the other tables.",
        ),
    )


def _row(one: Detectable) -> Row:
    block, digits = one.block, one.block.metric.digits
    run = next((run for run in block.runs if run.num_test), None)
    error = BLANK
    if run and block.metric.percent:
        variants = [v for v in contenders(block) if block.values(v)]
        mean = statistics.fmean(block.summary(v).mean for v in variants)
        error = f"{binomial_error(mean, run.num_test or 1):.{digits}f}"
    texts = [f"{value:.{digits}f}" for value in (one.sd, one.least, one.effect)]
    room = BLANK if one.room is None else f"{one.room:.{digits}f}"
    return Row(block.title, tuple(map(Cell, (*texts, room, error, str(len(block.seeds))))))


def detectable_sentences(found: Sequence[Detectable]) -> list[str]:
    """Return what could have been seen of differences to Concat, a line per data set.

    Args:
        found: What :func:`detectable` returned.
    """
    lines = []
    for one in found:
        if one.reference != "concat":
            continue
        effect, label = one.block.metric.text(one.effect), asked_label(one.reference)
        line = (
            f"- {one.block.title}: a true difference to {label} of {effect} would have been found "
            "in 80 of 100 experiments; smaller ones may exist and not be seen."
        )
        if one.room is not None and one.room < 2 * one.effect:
            level, room = (one.block.metric.text(value) for value in (one.level, one.room))
            line += f" {label} is at {level}, so that no gain can exceed {room}."
        lines.append(line)
    return lines
