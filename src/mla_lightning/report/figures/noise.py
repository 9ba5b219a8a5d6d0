"""Figure of noisy modalities: the fused score over the level of noise."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mla_lightning.report.figures.lines import draw_band, is_prominent, line_legend, line_styles
from mla_lightning.report.figures.style import (
    GID,
    GRID,
    TOOLTIP_SEPARATOR,
    TWO_COLUMNS,
    new_figure,
    set_title,
    style,
)
from mla_lightning.report.read.metrics import MetricDisplay

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Largest number of panels beside each other.
MAX_COLUMNS = 4
#: Noisy modality -> column -> level -> values over seeds, in the unit of the metric.
NoiseCurves = Mapping[str, Mapping[str, Mapping[float, Sequence[float]]]]


def noise_figure(curves: NoiseCurves, metric: MetricDisplay, title: str) -> Figure:
    """Draw the score with noisy inputs, a panel per noisy modality: mean and ± sd over seeds.

    Args:
        curves: The scores.
        metric: Their metric.
        title: Title of the figure, such as the data set and split.

    Example:
        >>> from mla_lightning.report.read.metrics import primary_metric
        >>> scores = {"MLA": {0.0: [60.0, 62.0], 1.0: [40.0, 41.0]}}
        >>> figure = noise_figure({"audio": scores, "all": scores}, primary_metric(), "toy, test")
        >>> [axis.get_title(loc="left") for axis in figure.axes]
        ['noise on audio', 'noise on all']
        >>> [float(y) for y in figure.axes[0].get_lines()[0].get_ydata()]
        [61.0, 40.5]
    """
    labels = list(dict.fromkeys(label for by_label in curves.values() for label in by_label))
    styles = line_styles(labels)
    num_columns = min(len(curves), MAX_COLUMNS)
    num_rows = -(-len(curves) // num_columns)
    with style():
        figure = new_figure(TWO_COLUMNS, 0.9 + 1.8 * num_rows)
        axes = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False).flat
        for axis in axes[len(curves) :]:
            axis.set_visible(False)
        for axis, (noisy, by_label) in zip(axes, curves.items(), strict=False):
            for label, by_level in by_label.items():
                levels, seeds = list(by_level), list(by_level.values())
                means = [statistics.fmean(values) for values in seeds]
                ends = f"{metric.text(means[0])} to {metric.text(means[-1])}"
                gid = f"{GID}{label}{TOOLTIP_SEPARATOR}{ends}"
                options = {"marker": "o", "markersize": 2.5, "label": label, **styles[label]}
                axis.plot(levels, means, gid=gid, **options)
                if is_prominent(styles[label]) and all(len(values) > 1 for values in seeds):
                    sds = [statistics.stdev(values) for values in seeds]
                    low = [mean - sd for mean, sd in zip(means, sds, strict=True)]
                    high = [mean + sd for mean, sd in zip(means, sds, strict=True)]
                    draw_band(axis, label, levels, low, high, styles[label])
            axis.set_title(f"noise on {noisy}", loc="left")
            axis.set_xlabel("level of noise")
            axis.grid(color=GRID, linewidth=0.6)
        for axis in axes[: len(curves) : num_columns]:
            axis.set_ylabel(f"{metric.label}{metric.axis_unit}")
        line_legend(figure, labels)
        set_title(figure, title)
    return figure
