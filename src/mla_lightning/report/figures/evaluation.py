"""Figures of trained models: fusion weights, accuracy by entropy, feature space and cost."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.reliability import legend
from mla_lightning.report.figures.style import (
    FOREMOST,
    FOREMOST_COLOUR,
    GID,
    GREY,
    line_styles,
    modality_colours,
    new_figure,
    style,
)
from mla_lightning.report.figures.training import draw_over_epochs, number_at
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.variant import method_label
from mla_lightning.run_folder.columns import GAP
from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL, REGRESSION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Maximum number of columns in a figure of projected features.
MAX_PLANES = 6
#: Task -> what colours the samples of such a figure, and the map of colours.
COLOURED_BY = {
    CLASSIFICATION: ("class", "tab20"),
    REGRESSION: ("true value", "viridis"),
    MULTILABEL: ("number of labels", "viridis"),
}
#: Methods that such a figure shows first.
FIRST = ("concat", "late_fusion", "mla", "unimodal")


def fusion(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the mean fusion weights of correct and of incorrect modalities."""
    lines = []
    for label in diagnostics.labels:
        for name in diagnostics.modalities:
            incorrect = diagnostics.mean(label, number_at("fusion", name, "when_wrong"))
            correct = diagnostics.mean(label, number_at("fusion", name, "when_right"))
            if incorrect is not None and correct is not None:
                lines.append((label, name, (incorrect, correct)))
    if not lines:
        return None
    colours = modality_colours(diagnostics.modalities)
    with style():
        figure = new_figure(7.5, 1.3 + 0.28 * len(lines))
        axis = figure.subplots()
        for place, (label, name, (incorrect, correct)) in enumerate(lines):
            options: dict[str, Any] = {"color": colours[name], "gid": GID + label}
            axis.plot([incorrect, correct], [place, place], linewidth=2.5, alpha=0.5, **options)
            axis.plot([incorrect], [place], "o", fillstyle="none", **options)
            axis.plot([correct], [place], "o", **options)
        equal_weight = 1 / len(diagnostics.modalities)
        axis.axvline(equal_weight, color="#888888", linewidth=0.8, linestyle="--")
        axis.set_yticks(range(len(lines)), [f"{label}: {name}" for label, name, _ in lines])
        axis.set_ylim(len(lines) - 0.5, -0.5)
        axis.set_xlabel("mean fusion weight (open: modality incorrect, filled: modality correct)")
        figure.suptitle(diagnostics.title, fontsize=10, fontweight="bold")
    return figure


def fusion_means(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the mean fusion weight of each modality."""
    means = {
        (label, name): weight
        for label in diagnostics.labels
        for name in diagnostics.modalities
        if (weight := diagnostics.mean(label, number_at("fusion", name, "mean"))) is not None
    }
    if not means:
        return None
    labels = list(dict.fromkeys(label for label, _ in means))
    colours = modality_colours(diagnostics.modalities)
    with style():
        figure = new_figure(6.5, 1.3 + 0.28 * len(labels))
        axis = figure.subplots()
        for (label, name), weight in means.items():
            place = [labels.index(label)]
            axis.plot([weight], place, "o", color=colours[name], label=name, gid=GID + label)
        equal_weight = 1 / len(diagnostics.modalities)
        axis.axvline(equal_weight, color="#888888", linewidth=0.8, linestyle="--")
        axis.set_yticks(range(len(labels)), labels)
        axis.set_ylim(len(labels) - 0.5, -0.5)
        axis.set_xlim(left=0)
        axis.set_xlabel("mean fusion weight")
        handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        figure.legend(
            [*handles.values()], [*handles], loc="outside lower center", ncols=6, frameon=False
        )
        figure.suptitle(diagnostics.title, fontsize=10, fontweight="bold")
    return figure


def entropy(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw accuracy over the entropy of the prediction, a panel per modality and for multi."""
    if not any(final.get("entropy") for of in diagnostics.finals.values() for final in of):
        return None  # of predictions that are no classes
    styles = line_styles(list(diagnostics.epochs))
    names = (*diagnostics.modalities, MULTI)
    with style():
        figure = new_figure(1.9 + 2.7 * len(names), 3.0)
        axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axis, name in zip(axes, names, strict=True):
            for label in diagnostics.labels:
                seeds = [
                    final["entropy"][name]
                    for final in diagnostics.finals[label]
                    if name in final["entropy"]
                ]
                if not seeds:
                    continue
                x, y = (
                    [scale * fmean(v) for v in zip(*(bins[key] for bins in seeds), strict=False)]
                    for key, scale in (("entropy", 1), ("accuracy", 100))
                )
                axis.plot(
                    x, y, marker="o", markersize=3, label=label, gid=GID + label, **styles[label]
                )
            axis.set_title(name, loc="left")
            axis.set_xlabel("entropy (nats)")
            axis.grid(color="#E5E5E5", linewidth=0.6)
        axes[0].set_ylabel(f"{diagnostics.split} accuracy (%)")
        legend(figure, axes)
        figure.suptitle(diagnostics.title, fontsize=10, fontweight="bold")
    return figure


def gap(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the modality gap over epochs (Liang et al., NeurIPS 2022)."""
    panels = {key: " · ".join(key.split("/")[1:]) for key in diagnostics.keys(GAP)}
    return draw_over_epochs(diagnostics, panels, "distance of mean features")


def pca(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the features in the plane of their first two principal components."""
    return _projected_features(diagnostics, "pca")


def tsne(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the features in the plane of a t-SNE."""
    return _projected_features(diagnostics, "tsne")


def umap(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the features in the plane of a UMAP."""
    return _projected_features(diagnostics, "umap")


def _projected_features(diagnostics: BlockDiagnostics, projection: str) -> Figure | None:
    """Draw features in a plane, coloured by modality and by label, with a column per method."""
    planes = {
        label: arrays
        for label, arrays in diagnostics.planes.items()
        if any(name.startswith(f"{projection}/") for name in arrays)
    }
    first = [method_label(method) for method in FIRST]
    labels = sorted(planes, key=lambda label: label not in first)[:MAX_PLANES]
    if not labels:
        return None
    colours = modality_colours(diagnostics.modalities)
    coloured_by, colour_map = COLOURED_BY[diagnostics.task or CLASSIFICATION]
    with style():
        figure = new_figure(0.8 + 2.1 * len(labels), 4.9)
        axes = figure.subplots(2, len(labels), squeeze=False)
        for column, label in enumerate(labels):
            arrays = planes[label]
            for row in (0, 1):
                axis = axes[row][column]
                axis.set_gid(GID + label)
                for name in diagnostics.modalities:
                    if f"{projection}/{name}" not in arrays:
                        continue
                    is_present = arrays.get(f"present/{name}")
                    xy = arrays[f"{projection}/{name}"]
                    labelled = arrays["label"]
                    if labelled.ndim == 2:
                        labelled = labelled.sum(axis=1)
                    if is_present is not None:
                        xy, labelled = xy[is_present], labelled[is_present]
                    options: dict[str, Any] = {"s": 5, "alpha": 0.7, "linewidths": 0}
                    if row == 0:
                        axis.scatter(*xy.T, color=colours[name], label=name, **options)
                    else:
                        axis.scatter(*xy.T, c=labelled, cmap=colour_map, **options)
                axis.set_xticks([])
                axis.set_yticks([])
            axes[0][column].set_title(label, loc="left")
        axes[0][0].set_ylabel("by modality")
        axes[1][0].set_ylabel(f"by {coloured_by}")
        pairs = [axis.get_legend_handles_labels() for axis in axes[0]]
        handles = {text: handle for pair in pairs for handle, text in zip(*pair, strict=True)}
        figure.legend(
            [*handles.values()], [*handles], loc="outside lower center", ncols=4, frameon=False
        )
        figure.suptitle(diagnostics.title, fontsize=10, fontweight="bold")
    return figure


def cost(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw time, memory, parameters and FLOPs of each column."""
    measures = list(dict.fromkeys(name for costs in diagnostics.costs.values() for name in costs))
    labels = list(diagnostics.costs)
    if not measures:
        return None
    with style():
        figure = new_figure(1.6 + 2.4 * len(measures), 1.2 + 0.26 * len(labels))
        axes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for axis, measure in zip(axes, measures, strict=True):
            for place, label in enumerate(labels):
                value = diagnostics.costs[label].get(measure)
                if value is None:
                    continue
                colour = FOREMOST_COLOUR if label == method_label(FOREMOST) else GREY
                for patch in axis.barh(place, value, height=0.65, color=colour):
                    patch.set_gid(GID + label)
                axis.text(value, place, f" {_short(value)}", va="center", fontsize=8)
            axis.set_title(measure, loc="left")
            axis.margins(x=0.25)
        axes[0].set_yticks(range(len(labels)), labels)
        axes[0].set_ylim(len(labels) - 0.4, -0.6)
        figure.suptitle(diagnostics.title, fontsize=10, fontweight="bold")
    return figure


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
