"""Whether runs used the learning rates that validation chose for them."""

from __future__ import annotations

from collections.abc import Iterable

from mla_lightning.report.cells import Block, Variant
from mla_lightning.report.tuning import choose, grids, rate_text


def rate_notes(used: Block, tuned: Block) -> list[str]:
    """Tell which runs used a rate that tuning did not choose, or one at the edge of its grid.

    Args:
        used: Runs of a table.
        tuned: Runs of the tuning sweep on the same data set.

    Returns:
        At most two sentences.
    """
    found = grids(tuned)
    edge, other = [], []
    for variant in used.variants:
        column = _tuned_as(variant, used, tuned, found)
        rates = {float(run.lr) for run in used.cells[variant].values() if run.lr is not None}
        if column is None or len(rates) != 1:
            continue
        (rate,), grid = rates, found[column]
        chosen = choose(grid).lr
        if rate in (min(grid), max(grid)):
            edge.append(f"{variant.label} {rate_text(rate)}")
        if chosen is not None and chosen != rate:
            other.append(f"{variant.label} {rate_text(rate)} (chosen {rate_text(chosen)})")
    sentences = []
    if edge:
        sentences.append(f"{used.name}: learning rate at the edge of the grid: {', '.join(edge)}.")
    if other:
        sentences.append(
            f"{used.name}: not at the learning rate that validation chose: {', '.join(other)}."
        )
    return sentences


def _tuned_as(
    variant: Variant, used: Block, tuned: Block, found: Iterable[Variant]
) -> Variant | None:
    """Find the column of tuning; where nothing else is set, the only one of its method will do."""
    same = [v for v in found if (v.method, v.ablation) == (variant.method, variant.ablation)]
    own = set(variant.overrides) | used.common
    exact = [v for v in same if set(v.overrides) | tuned.common == own]
    if not exact and not own:
        exact = same
    return exact[0] if len(exact) == 1 else None
