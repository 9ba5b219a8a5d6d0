"""Figures of the benchmark: differences to a reference, ranks over data sets, accuracy by cost."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, Protocol

from mla_lightning.report.figures.style import (
    ABOVE,
    BELOW,
    GID,
    GREY,
    TOOLTIP_SEPARATOR,
    new_figure,
    style,
)
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.variant import REFERENCES, Variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    with style():
        figure = new_figure(2.0 + 2.1 * len(table_blocks), 1.1 + 0.22 * len(shown))
        axes = figure.subplots(1, len(table_blocks), sharey=True, squeeze=False)[0]
        for axis, block in zip(axes, table_blocks, strict=True):
            here = [comparison for comparison in found if comparison.block is block]
            _difference_panel(axis, block, here, places)
        axes[0].set_yticks(range(len(shown)), [variant.label for variant in shown])
        axes[0].set_ylim(len(shown) - 0.4, -0.6)
        title = fill(f"Difference to {label}", int(9 * figure.get_figwidth()))
        figure.suptitle(title, fontsize=11, fontweight="bold")
        _legend(figure, found, num_columns=3 if len(table_blocks) > 2 else 2)
    return figure


def _difference_panel(
    axis: Axes, block: Block, here: Sequence[Compared], places: dict[Variant, int]
) -> None:
    metric = block.metric
    axis.set_title(block.title, loc="left")
    axis.set_xlabel(f"{metric.label}{metric.difference_unit}", fontsize=8)
    axis.grid(axis="x", color="#DDDDDD", linewidth=0.6)
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


def _legend(figure: Figure, found: Sequence[Compared], num_columns: int) -> None:
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
        loc="outside lower center",
        ncols=num_columns,
        frameon=False,
        fontsize=8,
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
        figure = new_figure(6.5, 1.3 + 0.24 * len(labels))
        axis = figure.subplots()
        axis.set_xlim(0.7, len(labels) + 0.3)
        axis.set_ylim(len(labels) + 0.2, -1.6)
        axis.xaxis.tick_top()
        axis.set_xticks(range(1, len(labels) + 1))
        axis.set_yticks(range(len(labels)), [labels[place] for place in order])
        axis.tick_params(axis="y", length=0)
        for side in ("left", "bottom", "right"):
            axis.spines[side].set_visible(False)
        axis.spines["top"].set_visible(True)
        for line, (place, mean) in enumerate(zip(order, means, strict=True)):
            gid = f"{GID}{labels[place]}{TOOLTIP_SEPARATOR}mean rank {mean:.2f}"
            axis.plot([0.7, mean], [line, line], color="#DDDDDD", linewidth=0.8, zorder=0)
            axis.plot([mean], [line], "o", color=ABOVE, markersize=5, gid=gid)
            axis.annotate(
                f"{mean:.1f}", (mean, line), (6, 0), textcoords="offset points", va="center",
                fontsize=8,
            )  # fmt: skip
        for bar, (first, last) in enumerate(groups):
            column = len(labels) + 0.1 - 0.12 * bar
            axis.plot([column, column], [first - 0.2, last + 0.2], color="black", linewidth=2.5)
        width = ranks.critical_difference
        end = min(1 + width, len(labels) + 0.3)
        axis.plot([1, end], [-1, -1], color="black", linewidth=2)
        words = f"critical difference {width:.1f} ranks"
        if end < 1 + width:
            words += " (wider than the diagram: no two methods are separated)"
        axis.annotate(words, (1, -1), (0, -11), textcoords="offset points", fontsize=8)
        if groups:
            axis.annotate(
                "bars at the right: ranks that Nemenyi's test does not separate",
                (0.5, 0),
                (0, -4),
                xycoords="axes fraction",
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=8,
            )
        figure.suptitle(
            f"Mean ranks over {num_sets} data sets (Friedman p = {ranks.p:.2g})",
            fontsize=11,
            fontweight="bold",
        )
    return figure


def cost_figure(table_blocks: Sequence[Block], measure: str = "train_time_s") -> Figure:
    """Draw the score of each method over its cost, a panel per data set.

    Args:
        table_blocks: The data sets.
        measure: The cost, of :data:`COSTS`.

    Returns:
        The figure. Methods that no other one beats in both are connected and named.
    """
    with style():
        figure = new_figure(0.6 + 3.5 * len(table_blocks), 3.3)
        axes = figure.subplots(1, len(table_blocks), squeeze=False)[0]
        for axis, block in zip(axes, table_blocks, strict=True):
            _cost_panel(axis, block, measure)
        title = f"Score by {COSTS[measure][0]}"
        figure.suptitle(title, fontsize=11, fontweight="bold")
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
    axis.set_xlabel(relative if base is not None and base.num else absolute, fontsize=8)
    axis.set_ylabel(f"test {metric.label}{metric.axis_unit}", fontsize=8)
    axis.grid(color="#EEEEEE", linewidth=0.6)
    axis.set_axisbelow(True)
    is_narrow = bool(points) and points[-1][0] < 5 * points[0][0]
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if is_narrow else (1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("")
    axis.tick_params(labelsize=7, which="both")
    axis.plot([p[0] for p in front], [p[1] for p in front], color=ABOVE, linewidth=1, zorder=1)
    named = []
    for amount, value, variant in points:
        is_front = any(variant == other for _, _, other in front)
        gid = f"{GID}{variant.label}{TOOLTIP_SEPARATOR}{metric.text(value)}, {amount:.1f} times"
        colour = ABOVE if is_front else GREY
        axis.plot([amount], [value], "o", color=colour, markersize=4, gid=gid)
        if is_front or variant.method in NAMED:
            named.append((value, amount, variant.label, colour if is_front else "#444444"))
    _name_points(axis, named)


def _name_points(axis: Axes, named: Sequence[tuple[float, float, str, str]]) -> None:
    """Write the names of points at the right of a panel, in their order, with lines to them."""
    low, high = axis.get_ylim()
    gap, lowest = 0.075 * (high - low), low
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
            fontsize=7,
            color=colour,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6},
        )
