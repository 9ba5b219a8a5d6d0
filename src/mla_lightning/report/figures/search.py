"""Figure of a search of settings: validation score of every trial, a panel per method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mla_lightning.report.figures.lines import emphasis
from mla_lightning.report.figures.style import (
    GREY,
    ONE_COLUMN,
    PLAIN,
    TWO_COLUMNS,
    new_figure,
    save,
    set_title,
    style,
)
from mla_lightning.report.read.metrics import LOWER_IS_BETTER, MetricDisplay

#: Panels beside each other.
COLUMNS = 4


@dataclass(frozen=True)
class SearchPanel:
    """The trials of one method.

    Attributes:
        title: The method.
        key: The setting on the horizontal axis.
        is_log: Whether that axis is logarithmic.
        values: Its values, one per trial; texts for a list of values.
        scores: Scores on validation as figures show them; None for trials that failed or were
            pruned.
        chosen: Index of the chosen trial, None if all failed.
    """

    title: str
    key: str
    is_log: bool
    values: Sequence[float | str]
    scores: Sequence[float | None]
    chosen: int | None


def draw_search(panels: Sequence[SearchPanel], stem: Path, metric: MetricDisplay) -> list[str]:
    """Draw the trials: later ones darker, the chosen one large, failed ones as crosses below.

    Args:
        panels: A panel per method.
        stem: Path of the figure without extension.
        metric: How the metric of the scores is shown.

    Returns:
        Names of the files.
    """
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with style():
        figure = new_figure(ONE_COLUMN if columns == 1 else TWO_COLUMNS, 1.7 * rows + 0.5)
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        finished = [s for panel in panels for s in panel.scores if s is not None] or [0.0]
        least = 1.0 if metric.percent else 0.01 * abs(max(finished))
        distance = 0.08 * (max(max(finished) - min(finished), least) or 1.0)
        # failed trials are where the worst are
        floor = max(finished) + distance if metric.lower_is_better else min(finished) - distance
        for axis in axes.flat[len(panels) :]:
            axis.set_axis_off()
        for axis, panel in zip(axes.flat, panels, strict=False):
            number = len(panel.values)
            for index, (value, score) in enumerate(zip(panel.values, panel.scores, strict=True)):
                if score is None:
                    axis.plot(value, floor, marker="x", color=GREY, markersize=4)
                    continue
                is_chosen = index == panel.chosen
                axis.plot(
                    value,
                    score,
                    marker="o",
                    markersize=7.5 if is_chosen else 3.5,
                    color="black" if is_chosen else PLAIN,
                    alpha=1.0 if is_chosen else 0.25 + 0.55 * index / number,
                    zorder=3 if is_chosen else 2,
                )
            if panel.is_log:
                axis.set_xscale("log")
                axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
                axis.xaxis.set_minor_formatter(lambda *_: "")
                axis.xaxis.get_major_locator().set_params(numticks=4)
            axis.set_title(panel.title, loc="left", **emphasis(panel.title))
            axis.set_xlabel(panel.key)
        if len({panel.key for panel in panels}) == 1:  # one range, so that panels can be compared
            limits = [axis.get_xlim() for axis in axes.flat[: len(panels)]]
            for axis in axes.flat[: len(panels)]:
                axis.set_xlim(min(low for low, _ in limits), max(high for _, high in limits))
        unit = f"\n({LOWER_IS_BETTER})" if metric.lower_is_better else ""
        for row in axes:
            row[0].set_ylabel(
                "validation, %" if metric.percent else f"validation {metric.label}{unit}"
            )
        set_title(
            figure,
            "Validation score by trial: later ones darker, the chosen one large, crosses: failed "
            "or pruned",
        )
        return save(figure, stem)
