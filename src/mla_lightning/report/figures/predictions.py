"""Figures of the predictions of tasks without classes: true and predicted values, F1 by label."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import TYPE_CHECKING

from mla_lightning.counts import f1_by_label
from mla_lightning.report.figures.style import (
    COLOURS,
    GID,
    GREY,
    line_styles,
    new_figure,
    style,
)
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.variant import method_label
from mla_lightning.run_folder.tasks import MULTILABEL, REGRESSION

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

#: Largest number of methods in the figure of true and predicted values.
MAX_METHODS = 6
#: Methods that it shows first.
FIRST = ("concat", "late_fusion", "mla", "unimodal")
#: Largest number of points of a method; more are thinned evenly.
MAX_POINTS = 2000
#: Markers of methods once all colours are used.
MARKERS = "os^Dv"
#: Largest number of labels in the figure of F1 by label.
MAX_LABELS = 30


def predicted_values(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the predicted over the true value of each test sample, of one seed of each method."""
    if diagnostics.task != REGRESSION or not diagnostics.predictions:
        return None
    first = [method_label(method) for method in FIRST]
    labels = sorted(diagnostics.predictions, key=lambda label: label not in first)[:MAX_METHODS]
    points = {label: _values(diagnostics.predictions[label][0]) for label in labels}
    ends = [end for pair in points.values() for values in pair for end in _ends(values)]
    margin = 0.04 * (max(ends) - min(ends)) or 1.0
    limits = (min(ends) - margin, max(ends) + margin)
    metric = diagnostics.metric
    with style():
        figure = new_figure(0.8 + 2.2 * len(labels), 3.1)
        axes = figure.subplots(1, len(labels), sharex=True, sharey=True, squeeze=False)[0]
        for axis, (label, (true, predicted)) in zip(axes, points.items(), strict=True):
            error = float(abs(predicted - true).mean())
            step = -(-len(true) // MAX_POINTS)
            axis.set_gid(GID + label)
            axis.plot(limits, limits, color=GREY, linewidth=0.8, linestyle="--", zorder=1)
            options = {"s": 7, "alpha": 0.5, "linewidths": 0, "color": COLOURS[0], "zorder": 2}
            axis.scatter(true[::step], predicted[::step], **options)
            text = metric.at_scale(error).text(error)
            axis.set_title(f"{label}\n{metric.label} {text}", loc="left")
            axis.set_xlabel("true value")
            axis.set_xlim(*limits)
            axis.set_ylim(*limits)
            axis.set_aspect("equal")
            axis.grid(color="#E5E5E5", linewidth=0.6)
        axes[0].set_ylabel("predicted value")
        title = f"{diagnostics.title}: test, multi, one seed of each method"
        figure.suptitle(title, fontsize=10, fontweight="bold")
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
        figure = new_figure(7.5, 1.3 + 0.3 * len(order))
        axis = figure.subplots()
        for place, (label, values) in enumerate(scores.items()):
            for row, k in enumerate(order):  # one by one: each has a tooltip
                axis.plot(
                    [100 * values[k]],
                    [row],
                    linestyle="",
                    marker=MARKERS[place // (len(COLOURS) - 1) % len(MARKERS)],
                    markersize=5,
                    alpha=0.8,
                    label=label,
                    gid=GID + label,
                    color=styles[label]["color"],
                )
        axis.set_yticks(
            range(len(order)), [f"{names[k]} ({100 * float(fractions[k]):.0f} %)" for k in order]
        )
        axis.set_ylim(len(order) - 0.5, -0.5)
        axis.set_xlim(-3, 103)
        axis.grid(axis="x", color="#E5E5E5", linewidth=0.6)
        axis.set_xlabel("test F1 (%)")
        handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        figure.legend([*handles.values()], [*handles], loc="outside right upper", frameon=False)
        title = f"{diagnostics.title}: F1 of each label, multi"
        if len(order) < len(names):
            title += f", the {len(order)} most frequent of {len(names)}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure


def _f1(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    return f1_by_label(arrays["label"], arrays[f"logits_{MULTI}"])
