"""Figures of trained models: fusion weights, accuracy by entropy, gap between features."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.lines import emphasis, line_legend, line_styles, name_rows
from mla_lightning.report.figures.style import (
    GID,
    GRID,
    TWO_COLUMNS,
    modality_colours,
    new_figure,
    set_title,
    style,
)
from mla_lightning.report.figures.training import draw_over_epochs, number_at
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.report.read.run import MULTI
from mla_lightning.run_folder.columns import GAP

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
        figure = new_figure(TWO_COLUMNS, 0.9 + 0.2 * len(lines))
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
        for tick, (label, _, _) in zip(axis.get_yticklabels(), lines, strict=True):
            tick.set(**emphasis(label))
        axis.set_xlabel("mean fusion weight (open: modality incorrect, filled: modality correct)")
        set_title(figure, diagnostics.title)
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
        figure = new_figure(TWO_COLUMNS, 1.0 + 0.2 * len(labels))
        axis = figure.subplots()
        for (label, name), weight in means.items():
            place = [labels.index(label)]
            axis.plot([weight], place, "o", color=colours[name], label=name, gid=GID + label)
        equal_weight = 1 / len(diagnostics.modalities)
        axis.axvline(equal_weight, color="#888888", linewidth=0.8, linestyle="--")
        name_rows(axis, labels)
        axis.set_xlim(left=0)
        axis.set_xlabel("mean fusion weight")
        handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        figure.legend([*handles.values()], [*handles], loc="outside lower left", ncols=6)
        set_title(figure, diagnostics.title)
    return figure


def entropy(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw accuracy over the entropy of the prediction, a panel per modality and for multi."""
    if not any(final.get("entropy") for of in diagnostics.finals.values() for final in of):
        return None  # of predictions that are no classes
    styles = line_styles(list(diagnostics.epochs))
    names = (*diagnostics.modalities, MULTI)
    with style():
        num_columns = min(len(names), 4)
        num_rows = -(-len(names) // num_columns)
        figure = new_figure(TWO_COLUMNS, 1.0 + 1.7 * num_rows)
        axes = figure.subplots(num_rows, num_columns, sharey=True, squeeze=False).flat
        for axis in axes[len(names) :]:
            axis.set_visible(False)
        for axis, name in zip(axes, names, strict=False):
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
            axis.grid(color=GRID, linewidth=0.6)
        for axis in axes[: len(names) : num_columns]:
            axis.set_ylabel(f"{diagnostics.split} accuracy (%)")
        line_legend(figure, diagnostics.labels)
        set_title(figure, diagnostics.title)
    return figure


def gap(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the modality gap over epochs (Liang et al., NeurIPS 2022)."""
    panels = {key: " · ".join(key.split("/")[1:]) for key in diagnostics.keys(GAP)}
    return draw_over_epochs(diagnostics, panels, "distance of mean features")
