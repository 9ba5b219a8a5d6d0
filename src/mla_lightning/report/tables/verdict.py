"""Verdict of an experiment in one sentence per data set, for the top of the page."""

from __future__ import annotations

from collections.abc import Sequence

from mla_lightning.report.document.table import p_text, signed
from mla_lightning.report.figures.style import FOREMOST
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.metrics import MetricDisplay
from mla_lightning.report.read.significance import compare
from mla_lightning.report.read.variant import REFERENCE, REFERENCES, Variant, method_label
from mla_lightning.report.tables.finding import BASELINES, Difference, differences_of


def foremost(block: Block) -> Variant | None:
    """Return the method in question: MLA, or the best where MLA has no result.

    Args:
        block: The runs of one data set, split and protocol.

    Returns:
        The variant; None where no method but references has a result.
    """
    ranked = _ranked(block)
    exact = [variant for variant in ranked if variant == Variant(FOREMOST)]
    similar = [variant for variant in ranked if variant.method == FOREMOST]
    return next(iter([*exact, *similar, *ranked]), None)


def verdict(block: Block) -> str:
    """Return how the method in question does on one data set, against each baseline.

    The method in question is MLA, or the method with the best mean where MLA has no result. The
    tests are those of the table of comparisons: paired by seed, with Holm's correction over all
    methods that are compared with the same baseline.

    Args:
        block: The runs of one data set, split and protocol.

    Returns:
        A sentence such as ``openmoji: MLA 64.1 ± 0.7 % test accuracy (3 seeds), best of 8 methods
        by its mean; no significant difference to Concat (+1.3, corrected p = 0.48).``
    """
    metric = block.metric
    ranked, hero = _ranked(block), foremost(block)
    if hero is None:
        return f"{block.title}: no method has a result on test yet."
    summary = block.summary(hero)
    spread = "" if summary.sd is None else f" ± {metric.text(summary.sd)}"
    seeds = f"{summary.num} seed{'s' * (summary.num > 1)}"
    score = f"{metric.text(summary.mean)}{spread}{' %' * metric.percent} test {metric.label}"
    parts = [f"{block.title}: {hero.label} {score} ({seeds}){_place(hero, ranked)}"]
    for name in BASELINES:
        baseline = block.find(name, compared_with=hero)
        if baseline is None or baseline == hero or not block.values(baseline):
            continue
        values = block.values(baseline)
        others = [v for v in ranked if v != baseline]
        differences = differences_of(
            [(v.label, compare(block.values(v), values)) for v in others], metric
        )
        parts.append(_against(differences[others.index(hero)], baseline.label, metric))
    if len(parts) == 1:
        parts.append(_without_baseline(block))
    return "; ".join(part for part in parts if part) + "."


def _ranked(block: Block) -> list[Variant]:
    """Return the methods with a result on test, the best first."""
    return sorted(
        (v for v in block.variants if v.method not in REFERENCES and block.summary(v).num),
        key=lambda variant: -block.metric.sign * block.summary(variant).mean,
    )


def _place(hero: Variant, ranked: Sequence[Variant]) -> str:
    place, num = ranked.index(hero) + 1, len(ranked)
    if num == 1:
        return ""
    ordinal = {1: "best", 2: "second", 3: "third"}.get(place, f"number {place}")
    leader = "" if place == 1 else f", after {ranked[0].label}" * (place == 2)
    return f", {ordinal} of {num} methods by its mean{leader}"


def _against(difference: Difference, baseline: str, metric: MetricDisplay) -> str:
    mean = difference.comparison.mean
    if mean is None:
        return f"no common seed with {baseline}"
    size = signed(mean, metric.digits)
    if difference.p is None:
        return f"{size} to {baseline}, too few seeds for a test"
    test = f"{size}, corrected p = {p_text(difference.p)}"
    if not difference.is_significant:
        return f"no significant difference to {baseline} ({test})"
    word = "better" if metric.sign * mean > 0 else "worse"
    return f"significantly {word} than {baseline} ({test})"


def _without_baseline(block: Block) -> str:
    if any(variant.method == REFERENCE for variant in block.variants):
        return f"beside {method_label(REFERENCE)}, no baseline was run"
    return "no baseline was run"
