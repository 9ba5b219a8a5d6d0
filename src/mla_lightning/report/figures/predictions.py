"""Figures of the predictions of tasks without classes: true and predicted values, F1 by label."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING

from mla_lightning.counts import f1_by_label
from mla_lightning.report.figures.beside import beside
from mla_lightning.report.figures.lines import (
    emphasis,
    in_question,
    left_out,
    line_legend,
    line_styles,
)
from mla_lightning.report.figures.style import (
    GID,
    GREY,
    GRID,
    ONE_COLUMN,
    TWO_COLUMNS,
    new_figure,
    set_title,
    style,
)
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.report.read.run import MULTI
from mla_lightning.run_folder.tasks import MULTILABEL, REGRESSION

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

#: Largest number of points of a method; more are thinned evenly.
MAX_POINTS = 2000
#: Markers of the methods in question; the others are grey dots.
MARKERS = "os^Dv"
#: Largest number of labels in the figure of F1 by label.
MAX_LABELS = 30


def predicted_values(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the predicted over the true value of each test sample, of one seed of each method."""
    if diagnostics.task != REGRESSION or not diagnostics.predictions:
        return None
    labels = in_question(list(diagnostics.predictions))
    points = {label: _values(diagnostics.predictions[label][0]) for label in labels}
    ends = [end for pair in points.values() for values in pair for end in _ends(values)]
    margin = 0.04 * (max(ends) - min(ends)) or 1.0
    limits = (min(ends) - margin, max(ends) + margin)
    metric = diagnostics.metric
    styles = line_styles(labels)
    with style():
        width = ONE_COLUMN if len(labels) <= 2 else TWO_COLUMNS
        figure = new_figure(width, 1.0 + 0.85 * width / len(labels))
        axes = figure.subplots(1, len(labels), sharex=True, sharey=True, squeeze=False)[0]
        for axis, (label, (true, predicted)) in zip(axes, points.items(), strict=True):
            error = float(abs(predicted - true).mean())
            step = -(-len(true) // MAX_POINTS)
            axis.set_gid(GID + label)
            axis.plot(limits, limits, color=GREY, linewidth=0.8, linestyle="--", zorder=1)
            options = {"s": 7, "alpha": 0.5, "linewidths": 0, "zorder": 2}
            options["color"] = styles[label]["color"]
            axis.scatter(true[::step], predicted[::step], **options)
            text = metric.at_scale(error).text(error)
            axis.set_title(f"{label}\n{metric.label} {text}", loc="left", **emphasis(label))
            axis.set_xlabel("true value")
            axis.set_xlim(*limits)
            axis.set_ylim(*limits)
            axis.set_aspect("equal")
            axis.grid(color=GRID, linewidth=0.6)
        axes[0].set_ylabel("predicted value")
        title = f"{diagnostics.title}: test, multi, one seed of each method"
        set_title(figure, title)
        beside(figure).remark = left_out(list(diagnostics.predictions), labels)
    return figure


def _values(arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return true and predicted values (N,) of the samples."""
    return arrays["label"].astype(float), arrays[f"logits_{MULTI}"][:, 0].astype(float)


def _ends(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def label_f1(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw F1 of each label on test, a dot per method: means over seeds."""
    if diagnostics.task != MULTILABEL or not diagnostics.predictions:
        return None
    scores = {
        label: [fmean(map(float, values)) for values in zip(*map(_f1, seeds), strict=True)]
        for label, seeds in diagnostics.predictions.items()
    }
    arrays = next(iter(diagnostics.predictions.values()))[0]
    fractions = arrays["label"].mean(axis=0)
    names = [str(name) for name in arrays["class_names"]]
    order = sorted(range(len(names)), key=lambda k: (-float(fractions[k]), k))[:MAX_LABELS]
    styles = line_styles(list(scores))
    with style():
        figure = new_figure(TWO_COLUMNS, 1.1 + 0.22 * len(order))
        axis = figure.subplots()
        named = in_question(list(scores))
        for label, values in scores.items():
            is_named = label in named
            for row, k in enumerate(order):  # one by one: each has a tooltip
                axis.plot(
                    [100 * values[k]],
                    [row],
                    linestyle="",
                    marker=MARKERS[named.index(label)] if is_named else "o",
                    markersize=5.5 if is_named else 4,
                    label=label,
                    gid=GID + label,
                    color=styles[label]["color"],
                    zorder=styles[label]["zorder"],
                )
        axis.set_yticks(
            range(len(order)), [f"{names[k]} ({100 * float(fractions[k]):.0f} %)" for k in order]
        )
        axis.set_ylim(len(order) - 0.5, -0.5)
        axis.set_xlim(-3, 103)
        axis.grid(axis="x", color=GRID, linewidth=0.6)
        axis.set_xlabel("test F1 (%)")
        line_legend(figure, list(scores))
        title = f"{diagnostics.title}: F1 of each label, multi"
        if len(order) < len(names):
            title += f", the {len(order)} most frequent of {len(names)}"
        set_title(figure, title)
    return figure


def _f1(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    return f1_by_label(arrays["label"], arrays[f"logits_{MULTI}"])
