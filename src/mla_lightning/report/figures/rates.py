"""Figure of Table 2: score by missing rate, beside the paper's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.lines import draw_band, is_prominent, line_legend, line_styles
from mla_lightning.report.figures.style import (
    GID,
    GRID,
    TWO_COLUMNS,
    fitted,
    new_figure,
    style,
)
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.paper import read_table2
from mla_lightning.report.read.variant import Variant, method_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def rate_figure(block: Block, grid: Mapping[str, Mapping[float, Variant]]) -> Figure:
    """Draw the score over missing rate, one line per method, beside the paper's numbers.

    The paper's numbers are beside those of classification alone.

    Args:
        block: The block.
        grid: Its variants by label and missing rate, a fraction.

    Returns:
        The figure.
    """
    paper = {} if block.task else _paper_lines()
    labels = list(dict.fromkeys([*grid, *paper]))
    styles = line_styles(labels)
    with style():
        figure = new_figure(TWO_COLUMNS, 3.0)
        ours, *theirs = figure.subplots(1, 1 if block.task else 2, squeeze=False)[0]
        for label, by_rate in grid.items():
            summaries = {rate: block.summary(variant) for rate, variant in by_rate.items()}
            drawn = {100 * rate: summary for rate, summary in summaries.items() if summary.num}
            _line(ours, label, list(drawn), [summary.mean for summary in drawn.values()], styles)
            if is_prominent(styles[label]):
                low = [summary.mean - (summary.sd or 0.0) for summary in drawn.values()]
                high = [summary.mean + (summary.sd or 0.0) for summary in drawn.values()]
                draw_band(ours, label, list(drawn), low, high, styles[label])
        for axis in theirs:
            for label, (percents, accuracies) in paper.items():
                _line(axis, label, percents, accuracies, styles)
            _finish(axis, f"{next(iter(read_table2()))}, the paper's numbers")
        metric = block.metric
        unit = ", percent" if metric.percent else metric.unit
        title = f"{block.title}: test {metric.label}{unit}, mean ± sd over seeds"
        _finish(ours, fitted(title, 0.8 * TWO_COLUMNS / (1 + len(theirs))))
        line_legend(figure, labels)
    return figure


def _paper_lines() -> dict[str, tuple[list[float], list[float]]]:
    """Return label -> missing rates and accuracies in percent, of the paper's only data set."""
    ((_, by_method),) = read_table2().items()
    return {
        method_label(method): (
            [100 * rate for rate in sorted(values)],
            [values[rate] for rate in sorted(values)],
        )
        for method, values in by_method.items()
    }


def _line(
    axis: Axes,
    label: str,
    percents: Sequence[float],
    values: Sequence[float],
    styles: Mapping[str, Any],
) -> None:
    options = {"marker": "o", "markersize": 2.5, **styles[label]}
    axis.plot(percents, values, label=label, gid=GID + label, **options)


def _finish(axis: Axes, title: str) -> None:
    axis.set_title(title, loc="left")
    axis.set_xlabel("nominal missing rate, percent")
    axis.grid(axis="y", color=GRID, linewidth=0.6)
    axis.set_axisbelow(True)
