"""The questions of the benchmark: is a method better than a reference, on each data set?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mla_lightning.report.read.block import Block
from mla_lightning.report.read.significance import (
    SIGNIFICANT,
    Comparison,
    binomial_error,
    compare,
    holm,
)
from mla_lightning.report.read.variant import REFERENCE, REFERENCES, Variant, method_label

#: Methods that every other method is compared with; ``single`` is the best single modality.
ASKED = ("concat", "joint_unimodal", "single", "ensemble")
SINGLE = "single"
#: Smallest difference that matters in practice, in percentage points.
PRACTICAL = 1.0
BETTER, WORSE, EQUAL, OPEN = "better", "worse", "equal", "open"
#: Significant, but the whole interval is within the margin.
SLIGHTLY = {BETTER: "slightly better", WORSE: "slightly worse"}
#: All verdicts, in the order in which they are listed.
VERDICTS = (BETTER, WORSE, *SLIGHTLY.values(), EQUAL, OPEN)


def asked_label(name: str) -> str:
    """Return the name of a reference in sentences.

    Example:
        >>> asked_label("concat"), asked_label("single")
        ('Concat', 'the best single modality')
    """
    return "the best single modality" if name == SINGLE else method_label(name)


@dataclass(frozen=True)
class Answer:
    """How a method compares with a reference on one data set.

    Attributes:
        block: The runs of the data set.
        variant: The method.
        reference: One of :data:`ASKED`, or the add-on that the same method does not have.
        comparison: The differences, paired by seed; positive where the method is better.
        p: p after Holm's correction over all methods and data sets.
        margin: Differences up to this one do not matter in practice: one point, or the standard
            error of the test split if that is larger. None for metrics that are no percentage.
    """

    block: Block
    variant: Variant
    reference: str
    comparison: Comparison
    p: float | None
    margin: float | None

    @property
    def direction(self) -> str:
        """``better`` or ``worse`` if the corrected p is below 0.05, else empty."""
        mean = self.comparison.mean
        if mean is None or self.p is None or self.p >= SIGNIFICANT:
            return ""
        return BETTER if mean > 0 else WORSE

    @property
    def is_small(self) -> bool:
        """Whether the whole interval is within the margin."""
        low, high = self.comparison.low, self.comparison.high
        if self.margin is None or low is None or high is None:
            return False
        return -self.margin <= low and high <= self.margin

    @property
    def verdict(self) -> str:
        """One of :data:`VERDICTS`: what the corrected p and the interval say together.

        ``better`` and ``worse`` are significant, ``slightly`` so if the whole interval is within
        the margin. ``equal`` is not significant, with the whole interval within the margin;
        ``open`` is neither.
        """
        if self.direction:
            return SLIGHTLY[self.direction] if self.is_small else self.direction
        return EQUAL if self.is_small else OPEN


def contenders(block: Block) -> list[Variant]:
    """Return the methods of a data set that are compared: all but the references."""
    return [variant for variant in block.variants if variant.method not in REFERENCES]


def best_single(block: Block) -> tuple[str, Variant] | None:
    """Return the single modality, trained alone, with the best mean on validation.

    Args:
        block: The runs of a data set.

    Returns:
        The modality and the method that trained it; None without runs of it.
    """
    variant = block.find(REFERENCE)
    if variant is None:
        return None
    summaries = {m: block.summary(variant, m, split="val") for m in block.modalities}
    known = {name: summary.mean for name, summary in summaries.items() if summary.num}
    if not known:
        return None
    return max(known, key=lambda name: block.metric.sign * known[name]), variant


def values_of(block: Block, reference: str) -> dict[int, float]:
    """Return the test values of a reference by seed; empty without runs of it.

    Args:
        block: The runs of a data set.
        reference: One of :data:`ASKED`.
    """
    if reference == SINGLE:
        single = best_single(block)
        return block.values(single[1], single[0]) if single else {}
    variant = block.find(reference)
    return block.values(variant) if variant else {}


def answers(table_blocks: Sequence[Block], reference: str) -> list[Answer]:
    """Compare every method with a reference on every data set.

    Holm's correction is over all methods and data sets: they are the family of one question.

    Args:
        table_blocks: The blocks.
        reference: One of :data:`ASKED`.

    Returns:
        The answers by data set, then by method.
    """
    found = []
    for block in table_blocks:
        others = values_of(block, reference)
        for variant in contenders(block) if others else ():
            if variant == block.find(reference):
                continue
            pair = block.metric.better_first(block.values(variant), others)
            found.append((block, variant, compare(*pair)))
    corrected = holm([comparison.p for _, _, comparison in found])
    return [
        Answer(block, variant, reference, comparison, p, margin_of(block))
        for (block, variant, comparison), p in zip(found, corrected, strict=True)
    ]


def margin_of(block: Block) -> float | None:
    """Return the largest difference that does not matter in practice; None if not known."""
    sizes = [run.num_test for run in block.runs if run.num_test]
    values = [value for v in block.variants for value in block.values(v).values()]
    if not block.metric.percent or not sizes or not values:
        return None
    return max(PRACTICAL, binomial_error(sum(values) / len(values), sizes[0]))


def by_method(found: Sequence[Answer]) -> Mapping[Variant, list[Answer]]:
    """Return method -> its answers, one per data set."""
    grouped: dict[Variant, list[Answer]] = {}
    for answer in found:
        grouped.setdefault(answer.variant, []).append(answer)
    return grouped


def verdict_text(of_method: Sequence[Answer], num_sets: int) -> str:
    """Return the verdicts of a method in a few words: how often each, or the only one.

    Args:
        of_method: Its answers to one question.
        num_sets: Number of data sets of the report.

    Example:
        >>> verdict_text([], num_sets=2)
        ''
    """
    verdicts = [answer.verdict for answer in of_method]
    if num_sets == 1:
        return "".join(verdicts)
    counts = [f"{verdicts.count(v)} {v}" for v in VERDICTS if v in verdicts]
    return ", ".join(counts)


def is_winner(of_method: Sequence[Answer], num_sets: int) -> bool:
    """Return whether a method is better on enough data sets and worse on none.

    What is only slightly better or worse does not count.

    Args:
        of_method: Its answers to one question.
        num_sets: Number of data sets of the report. Of one it has to be better there, of more on
            two of them.
    """
    verdicts = [answer.verdict for answer in of_method]
    return verdicts.count(BETTER) >= min(2, num_sets) and WORSE not in verdicts
