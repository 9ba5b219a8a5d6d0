"""Where balancing helps: the answers of the benchmark by the lever that a method uses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

from mla_lightning.report.document.table import BLANK, Cell, Row, Section, Table, signed
from mla_lightning.report.read.block import Block
from mla_lightning.report.tables.asked import BETTER, WORSE, Answer, asked_label
from mla_lightning.report.tables.rows import section_title

#: Lever -> methods that balance modalities by it; see docs/balancing.md.
LEVERS = {
    "losses": ("joint_unimodal", "dgl", "mmcosine", "lfm", "pmr", "pdf", "qmf"),
    "gradients of encoders": (
        *("ogm", "ogm_ge", "mlb", "agm", "cggm", "amss", "mmpareto", "inforeg"),
    ),
    "features and samples": ("opm", "remix", "valuation"),
    "order of learning": ("mla", "reconboost", "aug", "relearning", "gblend"),
    "teachers": ("umt", "g2d", "pdmp"),
}
BALANCING = frozenset(method for methods in LEVERS.values() for method in methods)
#: The references that the question is about: without balancing, and with its simplest form.
REFERENCES = ("concat", "joint_unimodal")


def lever_table(
    table_blocks: Sequence[Block], asked: Mapping[str, Sequence[Answer]]
) -> list[Table]:
    """Return the table of mean differences by lever, if there are answers of such methods.

    Args:
        table_blocks: The data sets.
        asked: Reference -> answers.
    """
    questions = [name for name in REFERENCES if name in asked]
    sections = []
    for block in table_blocks:
        rows = []
        for lever, methods in LEVERS.items():
            here = [_of(asked[name], block, methods) for name in questions]
            if any(here):
                num = max(map(len, here))
                cells = tuple(_cell(found, block.metric.digits) for found in here)
                rows.append(Row(f"{lever} ({num})", cells))
        if rows:
            title = section_title(block, table_blocks, is_difference=True)
            sections.append(Section(title, tuple(rows)))
    if not sections:
        return []
    return [
        Table(
            slug="levers",
            title="Where balancing helps, by the lever",
            corner="",
            columns=tuple(f"than {asked_label(name)}" for name in questions),
            sections=tuple(sections),
            notes=(
                "Mean difference over the methods of a lever (number of methods), the lowest and "
                "the highest one, and how many are better or worse, as in the table of verdicts: "
                "not counted are differences that are significant, but within the margin. Which "
                "method has which lever: docs/balancing.md.",
            ),
        )
    ]


def balancing_sentences(
    table_blocks: Sequence[Block], asked: Mapping[str, Sequence[Answer]]
) -> list[str]:
    """Return on which data sets balancing helps and on which it hurts, a line per data set.

    Args:
        table_blocks: The data sets.
        asked: Reference -> answers.
    """
    lines = []
    for block in table_blocks:
        parts = []
        for name in REFERENCES:
            found = _of(asked.get(name, ()), block, BALANCING)
            if found:
                better, worse = _counts(found)
                mean = signed(fmean(_means(found)), block.metric.digits)
                parts.append(
                    f"{better} of {len(found)} better and {worse} worse than {asked_label(name)} "
                    f"(mean {mean})"
                )
        if parts:
            lines.append(f"- {block.title}: methods that balance: {'; '.join(parts)}.")
    return lines


def _of(found: Sequence[Answer], block: Block, methods: Collection[str]) -> list[Answer]:
    return [
        answer
        for answer in found
        if answer.block is block
        and answer.variant.method in methods
        and answer.comparison.mean is not None
    ]


def _means(found: Sequence[Answer]) -> list[float]:
    return [a.comparison.mean for a in found if a.comparison.mean is not None]


def _counts(found: Sequence[Answer]) -> tuple[int, int]:
    """Return how many are significantly better, and how many worse."""
    verdicts = [answer.verdict for answer in found]
    return verdicts.count(BETTER), verdicts.count(WORSE)


def _cell(found: Sequence[Answer], digits: int) -> Cell:
    means = _means(found)
    if not means:
        return Cell(BLANK)
    low, mean, high = (signed(value, digits) for value in (min(means), fmean(means), max(means)))
    better, worse = _counts(found)
    return Cell(f"{mean} ({low} to {high}): {better} better, {worse} worse")
