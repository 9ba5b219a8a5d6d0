"""Figures of the benchmark: differences to a reference, ranks over data sets, accuracy by cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from mla_lightning.report.figures.lines import name_rows
from mla_lightning.report.figures.style import (
    ABOVE,
    BELOW,
    FOREMOST,
    FOREMOST_COLOUR,
    GID,
    GREY,
    GRID,
    PLAIN,
    TOOLTIP_SEPARATOR,
    TWO_COLUMNS,
    fitted,
    new_figure,
    set_title,
    style,
)
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.variant import REFERENCES, Variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Largest number of panels beside each other.
MAX_PANELS = 4
#: Verdict -> colour: evidence is coloured, not the sign.
VERDICT_COLOURS = {
    "better": ABOVE,
    "slightly better": ABOVE,
    "worse": BELOW,
    "slightly worse": BELOW,
}
#: Methods that are named in the figure of cost, beside the best one.
NAMED = ("concat", "joint_unimodal", "late_fusion", "mla", "ensemble")
#: Measure of a run -> what a score is drawn by, what it is, and its unit.
COSTS = {
    "train_time_s": ("training time", "time", "s"),
    "train_gflop": ("training FLOPs", "FLOPs", "billions"),
}


class Compared(Protocol):
    """A comparison of a method with a reference on one data set."""

    @property
    def block(self) -> Block:
        """The runs of the data set."""

    @property
    def variant(self) -> Variant:
        """The method."""

    @property
    def comparison(self) -> Any:
        """Mean difference, and the ends of its interval."""

    @property
    def margin(self) -> float | None:
        """The largest difference that does not matter in practice."""

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, the same with ``slightly``, or another word."""


def difference_figure(
    table_blocks: Sequence[Block], found: Sequence[Compared], order: Sequence[Variant], label: str
) -> Figure:
    """Draw the mean differences of all methods to a reference, a panel per data set.

    Args:
        table_blocks: The data sets; those without a comparison have no panel.
        found: The comparisons.
        order: The methods from top to bottom.
        label: The reference in the title.

    Returns:
        The figure.
    """
    shown = [v for v in order if any(c.variant == v for c in found)]
    table_blocks = [block for block in table_blocks if any(c.block is block for c in found)]
    places = {variant: place for place, variant in enumerate(shown)}
    num_columns = min(len(table_blocks), MAX_PANELS)
    num_rows = -(-len(table_blocks) // num_columns)
    with style():
        figure = new_figure(TWO_COLUMNS, 0.9 + (0.55 + 0.18 * len(shown)) * num_rows)
        axes = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False).flat
        for axis in axes[len(table_blocks) :]:
            axis.set_visible(False)
        for axis, block in zip(axes, table_blocks, strict=False):
            here = [comparison for comparison in found if comparison.block is block]
            _difference_panel(axis, block, here, places)
        for axis in axes[: len(table_blocks) : num_columns]:
            name_rows(axis, [variant.label for variant in shown])
        set_title(figure, f"Difference to {label}")
        _legend(figure, found)
    return figure


def _difference_panel(
    axis: Axes, block: Block, here: Sequence[Compared], places: dict[Variant, int]
) -> None:
    metric = block.metric
    axis.set_title(block.title, loc="left")
    axis.set_xlabel(fitted(f"{metric.label}{metric.difference_unit}", 1.2))
    axis.grid(axis="x", color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    margin = next((c.margin for c in here if c.margin), None)
    if margin is not None:
        axis.axvspan(-margin, margin, color="#EEEEEE", zorder=0)
    axis.axvline(0, color="black", linewidth=1)
    for compared in here:
        mean, low, high = (getattr(compared.comparison, name) for name in ("mean", "low", "high"))
        if mean is None:
            continue
        line, colour = places[compared.variant], VERDICT_COLOURS.get(compared.verdict, GREY)
        gid = f"{GID}{compared.variant.label}{TOOLTIP_SEPARATOR}{mean:+.{metric.digits}f}"
        if low is not None:
            gid += f", 95 % interval {low:+.{metric.digits}f} to {high:+.{metric.digits}f}"
            axis.plot([low, high], [line, line], color=colour, linewidth=1.6, gid=gid)
        face = "white" if compared.verdict.startswith("slightly") else colour
        axis.plot([mean], [line], "o", color=colour, markerfacecolor=face, markersize=4.5, gid=gid)


def _legend(figure: Figure, found: Sequence[Compared]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [
        Line2D([], [], color=colour, marker="o", linewidth=1.6, markersize=4.5, label=label)
        for colour, label in (
            (ABOVE, "significantly better"),
            (BELOW, "significantly worse"),
            (GREY, "no significant difference"),
        )
    ]
    handles.append(Patch(color="#EEEEEE", label="too small to matter"))
    if any(c.verdict.startswith("slightly") for c in found):
        handles.append(
            Line2D(
                *([], []),
                color="black",
                marker="o",
                markerfacecolor="white",
                linewidth=1.6,
                markersize=4.5,
                label="significant, and too small to matter",
            )
        )
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=3,
    )


def rank_figure(
    labels: Sequence[str], ranks: Any, groups: Sequence[tuple[int, int]], num_sets: int
) -> Figure:
    """Draw mean ranks, with bars beside methods which Nemenyi's test does not separate.

    Args:
        labels: The methods.
        ranks: Their :class:`~mla_lightning.report.tables.across.Ranks`.
        groups: First and last place of each group that is not separated, in the order of ranks.
        num_sets: Number of data sets.

    Returns:
        The figure, a critical-difference diagram (Demšar 2006).
    """
    order = sorted(range(len(labels)), key=lambda place: ranks.means[place])
    means = [ranks.means[place] for place in order]
    with style():
        figure = new_figure(TWO_COLUMNS, 1.1 + 0.19 * len(labels))
        axis = figure.subplots()
        axis.set_xlim(0.7, len(labels) + 0.3)
        axis.xaxis.tick_top()
        axis.set_xticks(range(1, len(labels) + 1))
        name_rows(axis, [labels[place] for place in order])
        axis.set_ylim(len(labels) + 0.2, -2.0)
        axis.tick_params(axis="y", length=0)
        for side in ("left", "bottom", "right"):
            axis.spines[side].set_visible(False)
        axis.spines["top"].set_visible(True)
        for line, (place, mean) in enumerate(zip(order, means, strict=True)):
            gid = f"{GID}{labels[place]}{TOOLTIP_SEPARATOR}mean rank {mean:.2f}"
            axis.plot([0.7, mean], [line, line], color="#DDDDDD", linewidth=0.8, zorder=0)
            axis.plot([mean], [line], "o", color=PLAIN, markersize=5, gid=gid)
            axis.annotate(
                f"{mean:.1f}", (mean, line), (6, 0), textcoords="offset points", va="center"
            )
        for bar, (first, last) in enumerate(groups):
            column = len(labels) + 0.1 - 0.12 * bar
            axis.plot([column, column], [first - 0.2, last + 0.2], color="black", linewidth=2.5)
        width = ranks.critical_difference
        end = min(1 + width, len(labels) + 0.3)
        axis.plot([1, end], [-1, -1], color="black", linewidth=2)
        words = f"critical difference {width:.1f} ranks"
        if end < 1 + width:
            words += " (wider than the diagram: no two methods are separated)"
        axis.annotate(words, (1, -1), (0, 4), textcoords="offset points")
        if groups:
            axis.annotate(
                "bars at the right: ranks that Nemenyi's test does not separate",
                (0.5, 0),
                (0, -4),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="center",
                va="top",
            )
        set_title(figure, f"Mean ranks over {num_sets} data sets (Friedman p = {ranks.p:.2g})")
    return figure


def cost_figure(table_blocks: Sequence[Block], measure: str = "train_time_s") -> Figure:
    """Draw the score of each method over its cost, a panel per data set.

    Args:
        table_blocks: The data sets.
        measure: The cost, of :data:`COSTS`.

    Returns:
        The figure. Methods that no other one beats in both are connected and named.
    """
    num_columns = min(len(table_blocks), 2)
    num_rows = -(-len(table_blocks) // num_columns)
    with style():
        figure = new_figure(TWO_COLUMNS, 0.4 + 2.4 * num_rows)
        axes = figure.subplots(num_rows, num_columns, squeeze=False).flat
        for axis in axes[len(table_blocks) :]:
            axis.set_visible(False)
        for axis, block in zip(axes, table_blocks, strict=False):
            _cost_panel(axis, block, measure)
        set_title(figure, f"Score by {COSTS[measure][0]}")
    return figure


def _cost_panel(axis: Axes, block: Block, measure: str) -> None:
    from matplotlib.ticker import LogLocator

    metric, points = block.metric, []
    _, name, unit_name = COSTS[measure]
    concat = block.find("concat")
    base = block.summary(concat, measure=measure) if concat else None
    unit = base.mean if base is not None and base.num else 1.0
    for variant in block.variants:
        score, cost = block.summary(variant), block.summary(variant, measure=measure)
        if variant.method not in REFERENCES and score.num and cost.num and cost.mean > 0:
            points.append((cost.mean / unit, score.mean, variant))
    points.sort(key=lambda point: (point[0], -metric.sign * point[1]))
    front: list[tuple[float, float, Variant]] = []
    for point in points:
        if not front or metric.sign * (point[1] - front[-1][1]) > 0:
            front.append(point)
    axis.set_title(block.title, loc="left")
    axis.set_xscale("log")
    relative = f"{name} of a run, as a multiple of Concat's"
    absolute = f"{name} of a run, {unit_name}"
    axis.set_xlabel(relative if base is not None and base.num else absolute)
    axis.set_ylabel(f"test {metric.label}{metric.axis_unit}")
    axis.grid(color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    is_narrow = bool(points) and points[-1][0] < 5 * points[0][0]
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if is_narrow else (1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("")
    axis.plot([p[0] for p in front], [p[1] for p in front], color=PLAIN, linewidth=1, zorder=1)
    named = []
    for amount, value, variant in points:
        is_front = any(variant == other for _, _, other in front)
        gid = f"{GID}{variant.label}{TOOLTIP_SEPARATOR}{metric.text(value)}, {amount:.1f} times"
        is_foremost = variant.method == FOREMOST
        colour = FOREMOST_COLOUR if is_foremost else "black" if is_front else GREY
        size = 5.5 if is_foremost else 4
        axis.plot([amount], [value], "o", color=colour, markersize=size, gid=gid)
        if is_front or variant.method in NAMED:
            named.append((value, amount, variant.label, PLAIN if colour == GREY else colour))
    _name_points(axis, named)


def _name_points(axis: Axes, named: Sequence[tuple[float, float, str, str]]) -> None:
    """Write the names of points at the right of a panel, in their order, with lines to them."""
    low, high = axis.get_ylim()
    gap, lowest = 0.085 * (high - low), low
    heights: list[float] = []
    for value, *_ in sorted(named):
        lowest = max(value, lowest + gap if heights else low)
        heights.append(lowest)
    shift = max(0.0, heights[-1] - high) if heights else 0.0
    for height, (value, amount, label, colour) in zip(heights, sorted(named), strict=True):
        axis.annotate(
            label,
            (amount, value),
            (1.03, height - shift),
            textcoords=axis.get_yaxis_transform(),
            va="center",
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6},
        )
