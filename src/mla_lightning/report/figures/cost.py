"""Figure of cost: score by training time, with all measures in the table of its numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from mla_lightning.report.document.table import BLANK, Cell, Row, Section, Table
from mla_lightning.report.figures.beside import beside
from mla_lightning.report.figures.direct_labels import Line, Named, label_points
from mla_lightning.report.figures.lines import in_question
from mla_lightning.report.figures.style import (
    FOREMOST,
    FOREMOST_COLOUR,
    GID,
    GREY,
    GRID,
    PLAIN,
    TOOLTIP_SEPARATOR,
    TWO_COLUMNS,
    new_figure,
    set_title,
    style,
)
from mla_lightning.report.read.block import Summary
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.report.read.variant import REFERENCE, REFERENCES, method_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: From this ratio of the longest to the shortest time on, the axis of time is logarithmic.
LOG_FROM = 10.0
#: Digits of the median of a column of numbers; all of a column have the same decimals.
DIGITS = 3


def cost(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the score of each column over its training time: means and spreads over seeds.

    Args:
        diagnostics: The diagnostics.

    Returns:
        The figure, None if no run recorded a time. Its table has all measures of cost.
    """
    labels = [
        label
        for label, times in diagnostics.times.items()
        if times.num and times.mean > 0 and diagnostics.scores[label].num
    ]
    if not labels:
        return None
    metric = diagnostics.metric
    with style():
        figure = new_figure(TWO_COLUMNS, 3.0)
        axis = figure.subplots()
        for label in labels:
            _point(axis, label, diagnostics)
        means = [diagnostics.times[label].mean for label in labels]
        if max(means) > LOG_FROM * min(means):
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter("{x:g}")
        axis.margins(x=0.08, y=0.08)
        axis.set_xlabel("training time of a run (s)")
        axis.set_ylabel(f"{diagnostics.score_split} {metric.label}{metric.axis_unit}")
        axis.grid(color=GRID, linewidth=0.6)
        axis.set_axisbelow(True)
        has_spread = any(diagnostics.times[label].num > 1 for label in labels)
        statistic = ": mean over seeds, bars: ± sd" if has_spread else ""
        set_title(figure, f"{diagnostics.title}{statistic}")
        first = in_question(labels, len(labels))
        bars = [bar for label in labels for bar in _bars(label, diagnostics)]
        label_points(axis, [_named(label, diagnostics) for label in first], bars)
        beside(figure).numbers = _numbers(diagnostics)
        others = [label for label in diagnostics.costs if label not in labels]
        if others:
            remark = f"Without a dot, for lack of a time or score: {', '.join(others)}."
            beside(figure).remark = remark
    return figure


def _point(axis: Axes, label: str, diagnostics: BlockDiagnostics) -> None:
    time, score, metric = diagnostics.times[label], diagnostics.scores[label], diagnostics.metric
    colour = _colour(label)
    is_foremost = colour == FOREMOST_COLOUR
    order = 5 if is_foremost else 4 if colour == "black" else 3
    tooltip = f"{_with_spread(score, metric.digits)} in {_with_spread(time, 1)} s"
    gid = f"{GID}{label}{TOOLTIP_SEPARATOR}{tooltip}"
    alpha = 0.8 if is_foremost else 0.35
    for bar in _bars(label, diagnostics):
        x, y = zip(*bar, strict=True)
        axis.plot(x, y, color=colour, linewidth=0.9, alpha=alpha, zorder=order - 0.5, gid=gid)
    is_reference = label.partition(" ")[0] == method_label(REFERENCE)
    axis.plot(
        [time.mean],
        [score.mean],
        marker="o",
        markersize=7 if is_foremost else 5,
        markerfacecolor="white" if is_reference else colour,
        color=colour,
        zorder=order,
        gid=gid,
    )


def _bars(label: str, diagnostics: BlockDiagnostics) -> list[Line]:
    """Return the ends of the bars of ± one standard deviation of time and score."""
    time, score = diagnostics.times[label], diagnostics.scores[label]
    x, y, bars = time.mean, score.mean, list[Line]()
    if time.sd is not None:
        bars.append(((x - time.sd, y), (x + time.sd, y)))
    if score.sd is not None:
        bars.append(((x, y - score.sd), (x, y + score.sd)))
    return bars


def _named(label: str, diagnostics: BlockDiagnostics) -> Named:
    colour = PLAIN if _colour(label) == GREY else _colour(label)
    return Named(diagnostics.times[label].mean, diagnostics.scores[label].mean, label, colour)


def _colour(label: str) -> str:
    """Return the colour of a column: that of the method in question, of a reference, or grey."""
    name = label.partition(" ")[0]
    if name == method_label(FOREMOST):
        return FOREMOST_COLOUR
    plain = {method_label(method) for method in (*REFERENCES, "concat")}
    return "black" if name in plain else GREY


def _with_spread(summary: Summary, digits: int) -> str:
    spread = "" if summary.sd is None else f" ± {summary.sd:,.{digits}f}"
    return f"{summary.mean:,.{digits}f}{spread}"


def _numbers(diagnostics: BlockDiagnostics) -> Table:
    """Make the table of all measures, with the same decimals in the whole of a column."""
    metric, times = diagnostics.metric, diagnostics.times
    labels = list(diagnostics.costs)
    unit = ", %" if metric.percent else ""
    columns = {
        f"{diagnostics.score_split} {metric.label}{unit}": [
            _with_spread(diagnostics.scores[label], metric.digits)
            if diagnostics.scores[label].num
            else BLANK
            for label in labels
        ],
    }
    digits = even_decimals([times[label].mean for label in labels if times[label].num])
    columns["training time, s"] = [
        _with_spread(times[label], digits) if times[label].num else BLANK for label in labels
    ]
    for name in dict.fromkeys(name for costs in diagnostics.costs.values() for name in costs):
        values = [diagnostics.costs[label].get(name) for label in labels]
        digits = even_decimals([value for value in values if value is not None])
        columns[name] = [BLANK if value is None else f"{value:,.{digits}f}" for value in values]
    rows = tuple(
        Row(label, tuple(Cell(texts[place]) for texts in columns.values()))
        for place, label in enumerate(labels)
    )
    return Table("", "", "", tuple(columns), (Section("", rows),))


def even_decimals(values: Sequence[float]) -> int:
    """Return the number of decimals with which a column of numbers is shown.

    Args:
        values: The numbers.

    Returns:
        So many that the median has three digits.

    Example:
        >>> even_decimals([14.0, 15.7, 20.0]), even_decimals([0.454, 0.129]), even_decimals([495.3])
        (1, 3, 0)
    """
    sizes = [abs(value) for value in values if value]
    if not sizes:
        return 0
    return max(0, DIGITS - 1 - math.floor(math.log10(median(sizes))))
