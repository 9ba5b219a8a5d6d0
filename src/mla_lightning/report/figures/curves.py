"""Learning curves: scores over epochs, from the ``metrics.csv`` of the runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.lines import draw_band, is_prominent, line_legend, line_styles
from mla_lightning.report.figures.style import (
    GID,
    GRID,
    ONE_COLUMN,
    TWO_COLUMNS,
    new_figure,
    set_title,
    style,
)
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.report.read.metrics import MetricDisplay, primary_metric
from mla_lightning.run_folder.columns import validation
from mla_lightning.run_folder.reader import RunFiles
from mla_lightning.run_folder.tasks import primary_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Curves:
    """Scores after each epoch, in the unit of the metric: accuracy in percent.

    Attributes:
        lines: Modality or ``multi`` -> column -> seed -> values; NaN for epochs without a
            validation, such as those of a stage that runs share.
        split: Split of the scores: ``validation``, or ``test`` with ``protocol=paper``.
        metric: The metric of the scores.

    Example:
        >>> Curves({"multi": {"MLA": {0: (40.0, 50.0), 1: (41.0, 52.0, 55.0)}}}).epochs
        3
    """

    lines: Mapping[str, Mapping[str, Mapping[int, tuple[float, ...]]]]
    split: str = "validation"
    metric: MetricDisplay = field(default_factory=primary_metric)

    @property
    def epochs(self) -> int:
        """Number of epochs of the longest curve; 0 without curves."""
        lengths = [
            len(values)
            for by_label in self.lines.values()
            for seeds in by_label.values()
            for values in seeds.values()
        ]
        return max(lengths, default=0)


def read_curves(block: Block, names: Sequence[str]) -> Curves:
    """Read the learning curves of a block's finished runs.

    Args:
        block: The block.
        names: Modalities and ``multi``.

    Returns:
        The curves; none of runs that were read from ``results.csv``, which does not hold them.
    """
    lines: dict[str, dict[str, dict[int, tuple[float, ...]]]] = {name: {} for name in names}
    scale = block.metric.scale
    for variant in block.variants:
        for seed, run in sorted(block.runs_by_variant[variant].items()):
            if run.path is None or not run.is_finished:
                continue
            epochs = RunFiles(run.path).metrics
            for name in names:
                key = validation(primary_of(block.task).column, name)
                values = tuple(scale * epoch.get(key, math.nan) for epoch in epochs)
                if not all(map(math.isnan, values)):
                    lines[name].setdefault(variant.label, {})[seed] = values
    split = "test" if block.protocol == "paper" else "validation"
    return Curves(lines, split, block.metric)


def curves_from_diagnostics(diagnostics: BlockDiagnostics, names: Sequence[str]) -> Curves:
    """Collect the learning curves from the diagnostics of a block.

    Args:
        diagnostics: The diagnostics.
        names: Modalities and ``multi``.

    Returns:
        The curves, with the seeds numbered from 0.
    """
    metric = diagnostics.metric
    keys = {name: validation(primary_of(diagnostics.task).column, name) for name in names}
    return Curves(
        {
            name: {
                label: {
                    index: tuple(
                        metric.scale * values.get(epoch, math.nan)
                        for epoch in range(1, max(values) + 1)
                    )
                    for index, values in enumerate(seeds)
                }
                for label in diagnostics.epochs
                if (seeds := diagnostics.curve(label, key))
            }
            for name, key in keys.items()
        },
        "test" if diagnostics.protocol == "paper" else "validation",
        metric,
    )


def curves_figure(curves: Curves, title: str) -> Figure:
    """Draw learning curves, a panel per modality and for multi: mean and ± sd over seeds.

    Args:
        curves: The curves.
        title: Title of the figure, such as the data set.

    Returns:
        The figure.
    """
    names = [name for name, by_label in curves.lines.items() if by_label]
    labels = list(dict.fromkeys(label for name in names for label in curves.lines[name]))
    styles = line_styles(labels)
    num_columns = min(len(names), 4)
    num_rows = -(-len(names) // num_columns)
    with style():
        figure = new_figure(ONE_COLUMN if len(names) == 1 else TWO_COLUMNS, 0.9 + 1.8 * num_rows)
        axes = figure.subplots(num_rows, num_columns, squeeze=False).flat
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        for axis, name in zip(axes, names, strict=False):
            for label in labels:
                seeds = curves.lines[name].get(label, {})
                if seeds:
                    _line(axis, label, list(seeds.values()), styles[label])
            axis.set_title(name, loc="left", fontweight="bold")
            axis.set_xlabel("epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.set_xlim(1, max(2, curves.epochs))
            axis.grid(color=GRID, linewidth=0.6)
        unit = f"{curves.split} {curves.metric.label}{curves.metric.axis_unit}"
        for axis in axes[: len(names) : num_columns]:
            axis.set_ylabel(unit)
        line_legend(figure, labels)
        has_bands = any(
            len(seeds) > 1 for by_label in curves.lines.values() for seeds in by_label.values()
        )
        statistic = "mean over seeds, band: ± sd" if has_bands else "one seed"
        set_title(figure, f"{title}: {statistic}")
    return figure


def _line(
    axis: Axes, label: str, seeds: Sequence[Sequence[float]], line_style: Mapping[str, Any]
) -> None:
    """Draw one column at the epochs that all of its seeds have."""
    all_epochs = enumerate(zip(*seeds, strict=False), start=1)
    by_epoch = {epoch: values for epoch, values in all_epochs if not any(map(math.isnan, values))}
    epochs = list(by_epoch)
    means = [statistics.fmean(values) for values in by_epoch.values()]
    gid = GID + label
    marker = "o" if len(means) == 1 else ""
    axis.plot(epochs, means, marker=marker, label=label, gid=gid, **line_style)
    if len(seeds) > 1 and is_prominent(line_style):
        spreads = [statistics.stdev(values) for values in by_epoch.values()]
        low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
        high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
        draw_band(axis, label, epochs, low, high, line_style)
