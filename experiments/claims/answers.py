"""Answers of the report on the claims: what is significant, one point per question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from experiments.claims.families import Family, Line
from mla_lightning.report.document.table import signed

#: Significant comparisons of a family that are named; further ones are counted.
MOST_NAMED = 4


def answers(families: Iterable[Family]) -> str:
    """Return the answers as a list in Markdown, in the order of the questions.

    Args:
        families: The families; those without a comparison are left out.

    Returns:
        A point per question: its text, then each family's significant comparisons.
    """
    points: dict[str, list[str]] = {}
    for family in families:
        if family.lines and family.measure:
            number = family.title.partition(".")[0]
            question = family.title.partition("?")[0]
            points.setdefault(number, [f"{question}?"]).append(answer(family))
    return "".join(f"- {' '.join(sentences)}\n" for sentences in points.values())


def answer(family: Family) -> str:
    """Return which comparisons of a family are significant.

    Args:
        family: The family.

    Example:
        >>> from mla_lightning.report.read.significance import Comparison
        >>> lines = (Line("openmoji", "MLA minus Concat", Comparison((0, 1), 1.6, p=0.01), 0.01),)
        >>> answer(Family("f", "1. Is it?", "", "", "lower", "higher", lines, measure="accuracy"))
        'Accuracy: 1 of 1 significantly different, higher openmoji MLA minus Concat (+1.6).'
    """
    significant = [line for line in family.lines if line.sign]
    name, num = family.measure[:1].upper() + family.measure[1:], len(family.lines)
    if not significant:
        return f"{name}: none of {num} significantly different."
    parts = [
        f"{word} {_named([line for line in significant if line.sign == sign])}"
        for sign, word in ((-1, family.down), (1, family.up))
        if any(line.sign == sign for line in significant)
    ]
    return f"{name}: {len(significant)} of {num} significantly different, {'; '.join(parts)}."


def _named(lines: Sequence[Line]) -> str:
    """Return the comparisons with the largest differences, and how many more there are."""
    largest = sorted(lines, key=lambda line: -abs(line.comparison.mean or 0.0))[:MOST_NAMED]
    names = [
        f"{line.section} {line.label} ({signed(line.comparison.mean)})"
        for line in lines
        if line in largest
    ]
    more = len(lines) - len(names)
    return ", ".join(names) + (f", and {more} more" if more else "")
