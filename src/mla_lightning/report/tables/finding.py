"""Finding of Table 1 in sentences: the best method, modality laziness, and the references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mla_lightning.report.document.table import p_text, signed
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.metrics import ACCURACY, MetricDisplay
from mla_lightning.report.read.significance import SIGNIFICANT, Comparison, compare, holm
from mla_lightning.report.read.variant import REFERENCE, REFERENCES, WITHOUT_NETWORK, Variant
from mla_lightning.report.tables.notes import reference_notes

#: Methods that the others are compared with, as in Table 1's comparisons.
BASELINES = ("concat", "late_fusion")


class Difference(NamedTuple):
    """A difference from a baseline, tested.

    Attributes:
        label: What is compared.
        comparison: The differences, paired by seed.
        p: Corrected p; None where no test is possible.
        metric: The metric that is compared.
    """

    label: str
    comparison: Comparison
    p: float | None
    metric: MetricDisplay

    @property
    def is_significant(self) -> bool:
        """Return whether the corrected p is below the level of the tables."""
        return self.p is not None and self.p < SIGNIFICANT

    def __str__(self) -> str:
        """Return label, mean difference and corrected p."""
        test = "no test" if self.p is None else f"corrected p = {p_text(self.p)}"
        return f"{self.label} {signed(self.comparison.mean, self.metric.digits)} ({test})"


def finding(block: Block) -> list[str]:
    """Return what Table 1 says of one data set, each claim with its test.

    Args:
        block: The runs of one data set, split and protocol.

    Returns:
        Sentences on the method with the best mean of the data's metric, methods that differ
        significantly from the baselines, modalities that joint training leaves under-trained, and
        methods without a network. Tests are paired over seeds, with Holm correction within each
        sentence.
    """
    metric = block.metric
    ranked = sorted(
        (v for v in block.variants if v.method not in REFERENCES and block.summary(v).num),
        key=lambda variant: -metric.sign * block.summary(variant).mean,
    )
    if not ranked:
        return [f"{block.title}: no method but references has a result on test."]
    best, num = ranked[0], len(ranked)
    of = f" of {num} methods" if num > 1 else ""
    seeds = f"{len(block.seeds)} seed{'s' * (len(block.seeds) > 1)}"
    return [
        f"{block.title}: {best.label} has the {'lowest' if metric.lower_is_better else 'highest'} "
        f"mean test {metric.label}{of}, {_score(metric, block.summary(best).mean)} ({seeds}).",
        *_from_baselines(block, ranked),
        *laziness(block, ranked),
        *_without_network(block, best),
        *reference_notes(block),
    ]


def _from_baselines(block: Block, ranked: Sequence[Variant]) -> Iterator[str]:
    """Yield which methods differ significantly from each baseline."""
    for name in BASELINES:
        baseline = next((variant for variant in ranked if variant.method == name), None)
        others = [variant for variant in ranked if variant != baseline]
        if baseline is None or not others:
            continue
        values = block.values(baseline)
        pairs = [(v.label, compare(block.values(v), values)) for v in others]
        differences = differences_of(pairs, block.metric)
        yield f"Compared with {baseline.label}, {_significant(differences, 'better', 'worse')}."


def laziness(block: Block, ranked: Sequence[Variant]) -> Iterator[str]:
    """Yield the differences of modalities from those trained alone, of Concat and the best."""
    concat = [variant for variant in ranked if variant.method == BASELINES[0]]
    for variant in dict.fromkeys([*concat, ranked[0]]):
        reference = block.find(REFERENCE, compared_with=variant)
        if reference is None:
            continue
        pairs = [
            (m, compare(block.values(variant, m), block.values(reference, m)))
            for m in block.modalities
        ]
        differences = differences_of([p for p in pairs if p[1].mean is not None], block.metric)
        if differences:
            is_accuracy = block.metric.name == ACCURACY
            words = ("more accurate", "less accurate") if is_accuracy else ("better", "worse")
            summary = _significant(differences, *words)
            yield f"In {variant.label}, compared with each modality trained alone, {summary}."


def _without_network(block: Block, best: Variant) -> Iterator[str]:
    """Yield how much better the best method is than those without a network."""
    for name in WITHOUT_NETWORK:
        reference = block.find(name, compared_with=best)
        if reference is None or not block.summary(reference).num:
            continue
        comparison = compare(block.values(best), block.values(reference))
        pair = (f"{best.label} minus {reference.label}", comparison)
        (difference,) = differences_of([pair], block.metric)
        score = _score(block.metric, block.summary(reference).mean)
        yield f"Without a network, {reference.label} reaches {score}: {difference}."


def _score(metric: MetricDisplay, value: float) -> str:
    return metric.text(value) + " %" * metric.percent


def differences_of(
    pairs: Sequence[tuple[str, Comparison]], metric: MetricDisplay
) -> list[Difference]:
    """Return the differences of a family of comparisons, with Holm's correction over all of it."""
    corrected = holm([comparison.p for _, comparison in pairs])
    return [Difference(*pair, p, metric) for pair, p in zip(pairs, corrected, strict=True)]


def _significant(differences: Sequence[Difference], better: str, worse: str) -> str:
    """Return which differences are significant, or the largest one where none is."""
    if all(difference.p is None for difference in differences):
        listed = ", ".join(map(str, differences))
        return f"{listed}: too few seeds for a test"
    texts = []
    for word, sign in ((better, 1), (worse, -1)):
        listed = ", ".join(
            str(d)
            for d in differences
            if d.is_significant and sign * d.metric.sign * (d.comparison.mean or 0) > 0
        )
        texts += [f"significantly {word}: {listed}"] if listed else []
    if texts:
        has_others = any(not difference.is_significant for difference in differences)
        return "; ".join(texts) + "; no other difference is significant" * has_others
    largest = max(differences, key=lambda d: abs(d.comparison.mean or 0))
    return f"no difference is significant (the largest: {largest})"
