"""The claims' families as tables and figures, and what their runs measured beside."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mla_lightning.report.claims.families import METHOD, Family, Found, Line
from mla_lightning.report.claims.rounds import ROUNDS, Round, mode_label, modes
from mla_lightning.report.document.table import (
    BEST,
    BLANK,
    Cell,
    Row,
    Section,
    Table,
    p_text,
    signed,
)
from mla_lightning.report.read.block import Block, Variant
from mla_lightning.report.tables.rows import SIGNIFICANT
from mla_lightning.report.tables.significance import CONFIDENCE, Comparison, compare, least_effect

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INTERVAL = f"{CONFIDENCE:.0%} interval"
COLUMNS = ("difference", INTERVAL, "effect size", "p", "p corrected", "seeds")
#: What a step changes of the other modalities' loss: header, column, decimals.
CHANGES = (
    ("others' loss by a whole step, thousandths", "forgetting", 2),
    ("by its gradient alone", "forgetting_own", 2),
)
#: Further measures of runs with diagnostics, likewise.
MEASURED = (
    ("cosine of head gradients", "gradient_cosine", 3),
    ("mean eigenvalue at the end", "projector_trace", 3),
    ("weight where right less wrong", "weight_gain", 3),
    ("calibration error, multi", "ece", 3),
    ("after temperature scaling", "ece_scaled", 3),
)


def family_table(family: Family) -> Table:
    """Write a family with its verdict, and with what it could have told.

    Args:
        family: The family.

    Returns:
        The table.
    """
    lines = family.lines
    sections = []
    for name in dict.fromkeys(line.section for line in lines):
        rows = [_row(line) for line in lines if line.section == name]
        sections.append(Section(name, tuple(rows)))
    low, high = (sum(line.sign == sign for line in lines) for sign in (-1, 1))
    verdict = (
        f"Of {len(lines)} comparisons {low} {family.down}, {high} {family.up}, "
        f"{len(lines) - low - high} not told from chance."
    )
    notes = (verdict, *power(lines), *family.notes)
    return Table(family.slug, family.title, "", COLUMNS, tuple(sections), notes)


def power(lines: Sequence[Line]) -> tuple[str, ...]:
    """Say how large a difference must come out to be told from chance.

    Args:
        lines: A family.

    Returns:
        A sentence: the effect size that the first of Holm's tests needs, and what that is in each
        data set with the median spread of its differences; none without a test.
    """
    tested = [line for line in lines if line.found.p is not None and line.found.sd]
    counts = Counter(len(line.found.seeds) for line in tested)
    if not counts:
        return ()
    num_seeds = counts.most_common(1)[0][0]
    least = least_effect(num_seeds, sum(line.found.p is not None for line in lines), SIGNIFICANT)
    spreads: dict[str, list[float]] = {}
    for line in tested:
        spreads.setdefault(line.section, []).append(line.found.sd or 0.0)
    sizes = ", ".join(
        f"{name} {least * statistics.median(sds):.1f}" for name, sds in spreads.items()
    )
    return (
        f"With {num_seeds} seeds and this many comparisons an effect size below {least:.2f} is "
        f"told from chance less than every other time; with the median spread of differences "
        f"that is: {sizes}.",
    )


def _row(line: Line) -> Row:
    found = line.found
    effect = BLANK
    if found.sd and found.mean is not None:
        effect = signed(found.mean / found.sd, 2)
    texts = (_interval(found), effect, p_text(found.p), p_text(line.p), str(len(found.seeds)))
    mean = Cell(signed(found.mean), BEST if line.sign else 0)
    return Row(line.label, (mean, *map(Cell, texts)))


def _interval(found: Comparison, digits: int = 1) -> str:
    is_known = found.low is not None
    return f"{signed(found.low, digits)} to {signed(found.high, digits)}" if is_known else BLANK


def forgetting_tables(stage: Round, found: Found) -> tuple[Table, ...]:
    """Show what runs with and without modification measured of the shared head.

    Args:
        stage: The round.
        found: Data set -> block of its runs.

    Returns:
        What was measured in the mean, and the changes by pair of modalities; empty tables where
        the runs have no diagnostics.
    """
    suffix = "" if stage == ROUNDS[0] else f"-{stage.slug}"
    place = f"{stage.title}: what happens to the shared head"
    return (
        _measured(f"forgetting{suffix}", f"{place}, means over epochs and seeds", found),
        _pairs(f"pairs{suffix}", f"{place}, change of loss by pair in thousandths", found),
    )


def _measured(slug: str, title: str, found: Found) -> Table:
    sections = []
    for block in found.values():
        rows = []
        for label, variant in _columns(block):
            if not any(
                block.summary(variant, measure=m).num for m in ("forgetting", "gradient_cosine")
            ):
                continue
            texts = []
            for _, measure, digits in CHANGES:
                changes = block.values(variant, measure=measure)
                interval = _interval(compare(changes, dict.fromkeys(changes, 0.0)), digits)
                texts += [_mean(block, variant, measure, digits), interval]
            texts += [_mean(block, variant, measure, digits) for _, measure, digits in MEASURED]
            rows.append(Row(label, tuple(map(Cell, texts))))
        sections += [Section(block.title, tuple(rows))] if rows else []
    headers = [text for header, _, _ in CHANGES for text in (header, INTERVAL)]
    headers += [header for header, _, _ in MEASURED]
    return Table(
        slug,
        title,
        "",
        tuple(headers),
        tuple(sections),
        (
            "First columns: above zero, a step on one modality makes the others worse; mean over "
            "all pairs of modalities, beside it the mean's interval, not corrected. A whole step "
            "is the optimiser's: with momentum, in which earlier gradients of all modalities are. "
            "Runs that were measured by an earlier version, which counted running statistics, "
            "have no number there.",
        ),
    )


def _mean(block: Block, variant: Variant, measure: str, digits: int) -> str:
    summary = block.summary(variant, measure=measure)
    spread = f" ± {summary.sd:.{digits}f}" if summary.num > 1 else ""
    return f"{summary.mean:.{digits}f}{spread}" if summary.num else BLANK


def _pairs(slug: str, title: str, found: Found) -> Table:
    sections = []
    for block in found.values():
        rows = []
        for label, variant in _columns(block):
            by_pair: dict[str, dict[int, float]] = {}
            for seed, run in block.cells[variant].items():
                for pair, change in json.loads(run.forgetting_pairs or "{}").items():
                    by_pair.setdefault(pair, {})[seed] = change
            for pair, changes in by_pair.items():
                change = compare(changes, dict.fromkeys(changes, 0.0))
                texts = (signed(change.mean, 2), _interval(change, 2), str(len(changes)))
                rows.append(Row(f"{label}: {pair}", tuple(map(Cell, texts))))
        sections += [Section(block.title, tuple(rows))] if rows else []
    note = "a > b: how a step on a changes the loss of b; above zero it makes b worse."
    columns = ("change", INTERVAL, "seeds")
    return Table(slug, title, "", columns, tuple(sections), (note,))


def _columns(block: Block) -> list[tuple[str, Variant]]:
    """List what a round compares, first without modification, with labels."""
    plain = block.find(METHOD, "no_hgm")
    found = [("none", plain)] if plain else []
    return found + [(mode_label(variant), variant) for variant in modes(block)]


def memory_table(found: Found) -> Table:
    """Show the memory that processes held at most.

    Args:
        found: Data set -> block of runs that each had a process of their own.

    Returns:
        The table.
    """
    sections = []
    for block in found.values():
        held = {v: block.summary(v, measure="peak_memory_mb") for v in block.variants}
        known = {v: summary for v, summary in held.items() if summary.num}
        least = min((summary.mean for summary in known.values()), default=0.0)
        rows = []
        for variant, summary in known.items():
            spread = f" ± {summary.sd:.0f}" if summary.sd is not None else ""
            texts = (f"{summary.mean:.0f}{spread}", f"{summary.mean - least:.0f}")
            rows.append(Row(variant.label, tuple(map(Cell, texts))))
        sections += [Section(block.title, tuple(rows))] if rows else []
    return Table(
        "memory",
        "5, memory: the most that a run's process held, MiB",
        "",
        ("mean ± sd over seeds", "above the leanest method"),
        tuple(sections),
        (
            "Resident memory of Table 1's runs, each in a process of its own: imports, data and "
            "evaluation are in it, so the second column is what a method adds; within the spread "
            "over seeds that tells nothing.",
        ),
    )


def forest(lines: Sequence[Line], title: str) -> Figure:
    """Draw differences with their intervals, a panel per data set.

    Args:
        lines: The comparisons.
        title: What is on the axis.

    Returns:
        The figure.
    """
    from mla_lightning.report.figures.style import ABOVE, BELOW, GREY, new_figure, style

    names = list(dict.fromkeys(line.section for line in lines))
    most = max(sum(line.section == name for line in lines) for name in names)
    longest = max(len(line.label) for line in lines)
    colours: Callable[[int], str] = {1: ABOVE, -1: BELOW, 0: GREY}.__getitem__
    with style():
        width = 1.9 + 0.065 * longest
        figure = new_figure(max(7.0, 0.3 + width * len(names)), 1.1 + 0.27 * most)
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        for axis, name in zip(axes, names, strict=True):
            own = [line for line in lines if line.section == name]
            for place, one in enumerate(own):
                colour = colours(one.sign)
                if one.found.low is not None and one.found.high is not None:
                    reach = [one.found.low, one.found.high]
                    axis.plot(reach, [place, place], color=colour, linewidth=1.4)
                axis.plot([one.found.mean], [place], "o", color=colour, markersize=5)
            axis.axvline(0, color="#888888", linewidth=0.8)
            axis.set_yticks(range(len(own)), [one.label for one in own])
            axis.set_ylim(most - 0.4, -0.6)
            axis.set_title(name, loc="left", fontweight="bold")
            axis.grid(axis="x", color="#E5E5E5", linewidth=0.6)
        figure.supxlabel(f"{title}; 95 % interval, coloured: corrected p < {SIGNIFICANT}")
    return figure
