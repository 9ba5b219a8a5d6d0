"""Figures of what trained models answer and encode: fusion, calibration, geometry, cost."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.reliability import legend
from mla_lightning.report.figures.style import COLOURS, GID, new_figure, paint, shades, style
from mla_lightning.report.figures.training import (
    numbered,
    over_epochs,
)
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.report.read.run import MULTI
from mla_lightning.report.read.variant import method_label
from mla_lightning.run_folder.columns import GAP

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Most columns whose features are drawn.
MOST_PLANES = 6
#: Columns that are drawn before others where not all are.
FIRST = ("concat", "late_fusion", "mla", "unimodal")


def fusion(found: BlockDiagnostics) -> Figure | None:
    """Draw the fusion's weights where a modality is right and where it is wrong."""
    lines = []
    for label in found.labels:
        for name in found.modalities:
            wrong = found.mean(label, numbered("fusion", name, "when_wrong"))
            right = found.mean(label, numbered("fusion", name, "when_right"))
            if wrong is not None and right is not None:
                lines.append((label, name, (wrong, right)))
    if not lines:
        return None
    looks = shades(found.modalities)
    with style():
        figure = new_figure(7.5, 1.3 + 0.28 * len(lines))
        axis = figure.subplots()
        for place, (label, name, (wrong, right)) in enumerate(lines):
            options: dict[str, Any] = {"color": looks[name], "gid": GID + label}
            axis.plot([wrong, right], [place, place], linewidth=2.5, alpha=0.5, **options)
            axis.plot([wrong], [place], "o", fillstyle="none", **options)
            axis.plot([right], [place], "o", **options)
        axis.axvline(1 / len(found.modalities), color="#888888", linewidth=0.8, linestyle="--")
        axis.set_yticks(range(len(lines)), [f"{label}: {name}" for label, name, _ in lines])
        axis.set_ylim(len(lines) - 0.5, -0.5)
        axis.set_xlabel("mean weight; open: where the modality is wrong, full: where it is right")
        figure.suptitle(found.title, fontsize=10, fontweight="bold")
    return figure


def entropy(found: BlockDiagnostics) -> Figure | None:
    """Draw accuracy by entropy, a panel per modality and for multi."""
    if not found.labels:
        return None
    looks = paint(list(found.epochs))
    names = (*found.modalities, MULTI)
    with style():
        figure = new_figure(1.9 + 2.7 * len(names), 3.0)
        axes = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
        for axis, name in zip(axes, names, strict=True):
            for label in found.labels:
                bins = [
                    one["entropy"][name] for one in found.finals[label] if name in one["entropy"]
                ]
                if not bins:
                    continue
                x = [fmean(v) for v in zip(*(one["entropy"] for one in bins), strict=False)]
                y = [100 * fmean(v) for v in zip(*(one["accuracy"] for one in bins), strict=False)]
                axis.plot(
                    x, y, marker="o", markersize=3, label=label, gid=GID + label, **looks[label]
                )
            axis.set_title(name, loc="left")
            axis.set_xlabel("entropy, nats")
            axis.grid(color="#E5E5E5", linewidth=0.6)
        axes[0].set_ylabel(f"{found.split} accuracy, percent")
        legend(figure, axes)
        figure.suptitle(found.title, fontsize=10, fontweight="bold")
    return figure


def gap(found: BlockDiagnostics) -> Figure | None:
    """Draw the modality gap over epochs."""
    panels = {key: " · ".join(key.split("/")[1:]) for key in found.keys(GAP)}
    return over_epochs(found, panels, "distance of mean directions")


def planes(found: BlockDiagnostics, method: str = "pca") -> Figure | None:
    """Draw features in a plane, coloured by modality and by class, a column per method."""
    drawn = {
        label: arrays
        for label, arrays in found.planes.items()
        if any(name.startswith(f"{method}/") for name in arrays)
    }
    first = [method_label(method) for method in FIRST]
    labels = sorted(drawn, key=lambda label: label not in first)[:MOST_PLANES]
    if not labels:
        return None
    colours = shades(found.modalities)
    with style():
        figure = new_figure(0.8 + 2.1 * len(labels), 4.9)
        axes = figure.subplots(2, len(labels), squeeze=False)
        for column, label in enumerate(labels):
            arrays = drawn[label]
            for row in (0, 1):
                axis = axes[row][column]
                axis.set_gid(GID + label)
                for name in found.modalities:
                    if f"{method}/{name}" not in arrays:
                        continue
                    there = arrays.get(f"present/{name}")
                    xy = arrays[f"{method}/{name}"]
                    classes = arrays["label"]
                    if there is not None:
                        xy, classes = xy[there], classes[there]
                    options: dict[str, Any] = {"s": 5, "alpha": 0.7, "linewidths": 0}
                    if row == 0:
                        axis.scatter(*xy.T, color=colours[name], label=name, **options)
                    else:
                        axis.scatter(*xy.T, c=classes, cmap="tab20", **options)
                axis.set_xticks([])
                axis.set_yticks([])
            axes[0][column].set_title(label, loc="left")
        axes[0][0].set_ylabel("by modality")
        axes[1][0].set_ylabel("by class")
        pairs = [axis.get_legend_handles_labels() for axis in axes[0]]
        named = {text: handle for pair in pairs for handle, text in zip(*pair, strict=True)}
        figure.legend(
            [*named.values()], [*named], loc="outside lower center", ncols=4, frameon=False
        )
        figure.suptitle(found.title, fontsize=10, fontweight="bold")
    return figure


def tsne(found: BlockDiagnostics) -> Figure | None:
    """Draw the same by t-SNE, where it was computed."""
    return planes(found, "tsne")


def cost(found: BlockDiagnostics) -> Figure | None:
    """Draw what each column costs."""
    measures = list(dict.fromkeys(name for by in found.costs.values() for name in by))
    labels = list(found.costs)
    if not measures:
        return None
    with style():
        figure = new_figure(1.6 + 2.4 * len(measures), 1.2 + 0.26 * len(labels))
        axes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
        for axis, measure in zip(axes, measures, strict=True):
            for place, label in enumerate(labels):
                value = found.costs[label].get(measure)
                if value is None:
                    continue
                for patch in axis.barh(place, value, height=0.65, color=COLOURS[0]):
                    patch.set_gid(GID + label)
                axis.text(value, place, f" {_short(value)}", va="center", fontsize=8)
            axis.set_title(measure, loc="left")
            axis.margins(x=0.25)
        axes[0].set_yticks(range(len(labels)), labels)
        axes[0].set_ylim(len(labels) - 0.4, -0.6)
        figure.suptitle(found.title, fontsize=10, fontweight="bold")
    return figure


def _short(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
