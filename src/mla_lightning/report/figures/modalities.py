"""Figure of Tables 1 and 3: score of each modality, jointly trained and trained alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mla_lightning.report.document.table import format_states
from mla_lightning.report.figures.lines import name_rows
from mla_lightning.report.figures.style import (
    ABOVE,
    BELOW,
    GID,
    GREY,
    GRID,
    ONE_COLUMN,
    PLAIN,
    TOOLTIP_SEPARATOR,
    TWO_COLUMNS,
    new_figure,
    set_title,
    style,
)
from mla_lightning.report.read.block import Block, Summary
from mla_lightning.report.read.metrics import MetricDisplay
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.significance import SIGNIFICANT, compare, holm
from mla_lightning.report.read.variant import REFERENCE, REFERENCES, Variant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Largest number of panels beside each other.
MAX_PANELS = 4
#: A method is beyond its panel if the others take less than this fraction of what all would.
MOST = 0.45
#: Smallest number of means, with that of the reference, for this.
MIN_METHODS = 5
#: Line style of the reference.
ALONE = (0, (4, 3))
#: Caption of :func:`modality_figure`.
READING = (
    "Dots: means over seeds; black bars: ± one standard deviation; ticks: single seeds. Dashed "
    "line: the modality trained alone, where it was run. A coloured bar is a significant "
    "difference from it (paired t-test, Holm-corrected within the panel, p < 0.05); a grey one is "
    "not. An arrow at the edge: that method is beyond the panel, as it would squeeze the others."
)


def modality_figure(block: Block, columns: Mapping[str, Variant] | None = None) -> Figure:
    """Draw the score of each method, with a panel per modality and one for multi.

    The bar from the dashed line, the modality trained alone, to the dot is the effect of joint
    training. All panels span the same number of points, so that the bars are comparable.
    Larger values are at the right, whatever the metric; the title says which are better.

    Args:
        block: The block.
        columns: Label -> column; by default all columns of the block except the references.

    Returns:
        The figure.
    """
    if columns is None:
        columns = {v.label: v for v in block.variants if v.method not in REFERENCES}
    names = (*block.modalities, MULTI)
    panels = {name: {k: block.summary(v, name) for k, v in columns.items()} for name in names}
    reference = block.find(REFERENCE)
    alone = {
        name: block.summary(reference, name) if reference else Summary({}, block.seeds)
        for name in names
    }
    metric = block.metric
    limits = _limits([[*panels[name].values(), alone[name]] for name in names], metric)
    with style():
        num_columns = min(len(names), MAX_PANELS)
        num_rows = -(-len(names) // num_columns)
        width = ONE_COLUMN if len(names) == 1 else TWO_COLUMNS
        figure = new_figure(width, 0.75 + (0.65 + 0.2 * len(columns)) * num_rows)
        axes = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False).flat
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        for axis, name, limit in zip(axes, names, limits, strict=False):
            colours = _evidence(block, columns, reference, name)
            _panel(axis, name, columns, panels[name], alone[name], limit, metric, colours)
        for axis in axes[: len(names) : num_columns]:
            name_rows(axis, list(columns))
        title = f"{block.title}: test {metric.label}{metric.axis_unit}"
        set_title(figure, title)
        reference_name = (
            f"trained alone{f' ({reference.label})' if reference and reference.overrides else ''}"
        )
        has_reference = any(summary.num for summary in alone.values())
        has_spread = any(
            summary.num > 1 for summaries in panels.values() for summary in summaries.values()
        )
        sides = ("significantly worse", "significantly better")
        _legend(figure, reference_name if has_reference else "", sides, has_spread=has_spread)
    return figure


def _panel(
    axis: Axes,
    name: str,
    columns: Mapping[str, Variant],
    summaries: Mapping[str, Summary],
    alone: Summary,
    limit: tuple[float, float],
    metric: MetricDisplay,
    colours: Mapping[str, str],
) -> None:
    axis.set_xlim(*limit)
    axis.set_title(_panel_title(name, alone, metric), loc="left")
    axis.grid(axis="x", color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0, pad=6)
    axis.spines["left"].set_visible(False)
    if alone.num:
        axis.axvline(alone.mean, color="black", linewidth=1.2, linestyle=ALONE, gid="alone")
    start = alone.mean if alone.num and name != MULTI else None
    for line, (label, summary) in enumerate(summaries.items()):
        gid = GID + columns[label].label
        if summary.num:
            colour = colours.get(label, PLAIN)
            gid += _tooltip(summary, metric)
            _method(axis, line, gid, summary, start, metric, colour)
            if not limit[0] <= summary.mean <= limit[1]:
                end, arrow = (limit[0], "<") if summary.mean < limit[0] else (limit[1], ">")
                axis.plot([end], [line], arrow, color=colour, markersize=5, gid=gid, clip_on=False)
        else:
            axis.text(
                0.03,
                line,
                format_states(summary),
                gid=gid,
                transform=axis.get_yaxis_transform(),
                va="center",
                color=GREY,
                fontstyle="italic",
            )


def _method(
    axis: Axes,
    line: int,
    gid: str,
    summary: Summary,
    alone: float | None,
    metric: MetricDisplay,
    colour: str,
) -> None:
    mean, values = summary.mean, list(summary.values.values())
    if alone is not None:
        axis.plot(
            [alone, mean],
            [line, line],
            color=colour,
            linewidth=3,
            solid_capstyle="butt",
            alpha=0.4,
            zorder=2,
            gid=gid,
        )
    if summary.sd is not None:
        ends = [mean - summary.sd, mean + summary.sd]
        axis.plot(ends, [line, line], color="black", linewidth=1.1, zorder=4, gid=gid)
        axis.plot(
            values,
            [line] * len(values),
            "|",
            color="black",
            markersize=5.5,
            alpha=0.5,
            zorder=4,
            gid=gid,
        )
    axis.plot([mean], [line], "o", color=colour, markersize=5, zorder=5, gid=gid)
    num_seeds = "" if summary.is_complete else f" ({summary.num} of {len(summary.expected)})"
    axis.text(
        1.02,
        line,
        f"{metric.text(mean)}{num_seeds}",
        gid=gid,
        transform=axis.get_yaxis_transform(),
        va="center",
        ha="left",
        color=colour,
    )


def _tooltip(summary: Summary, metric: MetricDisplay) -> str:
    spread = "" if summary.sd is None else f" ± {metric.text(summary.sd)}"
    seeds = ", ".join(map(metric.text, summary.values.values()))
    return f"{TOOLTIP_SEPARATOR}{metric.text(summary.mean)}{spread}, seeds: {seeds}"


def _evidence(
    block: Block, columns: Mapping[str, Variant], reference: Variant | None, name: str
) -> dict[str, str]:
    """Return label -> colour: significantly better or worse than trained alone, or neither."""
    if reference is None or name == MULTI:
        return {}
    alone = block.values(reference, name)
    compared = [compare(block.values(variant, name), alone) for variant in columns.values()]
    corrected = holm([comparison.p for comparison in compared])
    colours = {}
    for label, comparison, p in zip(columns, compared, corrected, strict=True):
        if p is not None and p < SIGNIFICANT and comparison.mean:
            colours[label] = ABOVE if block.metric.sign * comparison.mean > 0 else BELOW
    return colours


def _panel_title(name: str, alone: Summary, metric: MetricDisplay) -> str:
    if not alone.num:
        return name
    spread = "" if alone.sd is None else f" ± {metric.text(alone.sd)}"
    reference = "ensemble" if name == MULTI else "alone"
    return f"{name}\n{reference}: {metric.text(alone.mean)}{spread}"


def _limits(
    panels: Sequence[Sequence[Summary]], metric: MetricDisplay
) -> list[tuple[float, float]]:
    """Return limits of equal span for all panels, each centred on its values.

    A method that is much worse than all others is beyond them.
    """
    ranges = []
    for of_panel in panels:
        summaries = _usual(of_panel, metric.sign)
        values = [value for summary in summaries for value in summary.values.values()]
        for summary in summaries:
            if summary.sd is not None:
                values += [summary.mean - summary.sd, summary.mean + summary.sd]
        ranges.append((min(values, default=0.0), max(values, default=0.0)))
    margin = 0.5 if metric.percent else 5 * 10.0**-metric.digits
    half = max(high - low for low, high in ranges) / 2 * 1.1 + margin
    return [((low + high) / 2 - half, (low + high) / 2 + half) for low, high in ranges]


def _usual(summaries: Sequence[Summary], sign: int) -> list[Summary]:
    """Return the summaries without the worst one, if it would take most of a panel."""
    ordered = sorted((s for s in summaries if s.num), key=lambda s: sign * s.mean)
    if len(ordered) < MIN_METHODS:
        return ordered
    worst, second, best = (sign * ordered[place].mean for place in (0, 1, -1))
    return ordered[1:] if best - second < MOST * (best - worst) else ordered


def _legend(figure: Figure, reference: str, sides: tuple[str, str], *, has_spread: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [], [], color=PLAIN, marker="o", markersize=5, linestyle="", label="mean over seeds"
        ),
        Line2D(
            [],
            [],
            color="black",
            marker="|",
            markersize=5.5,
            linewidth=1.1,
            label="± sd; single seeds",
        ),
    ]
    if reference:
        handles = [
            Line2D([], [], color="black", linewidth=1.2, linestyle=ALONE, label=reference),
            Line2D([], [], color=BELOW, marker="o", linewidth=3, alpha=0.8, label=sides[0]),
            Line2D([], [], color=ABOVE, marker="o", linewidth=3, alpha=0.8, label=sides[1]),
            handles[1],
        ]
    handles = handles if has_spread else handles[:-1]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))
