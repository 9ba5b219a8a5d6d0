"""Figures of the diagnostics: laziness, forgetting, gradients and contributions.

The id of every element names its column, by which readers of the page choose columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.style import (
    GID,
    SHARED,
    is_prominent,
    line_styles,
    modality_colours,
    new_figure,
    style,
)
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.run_folder import columns
from mla_lightning.run_folder.tasks import REGRESSION, primary_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def number_at(*path: str) -> Callable[[Mapping[str, Any]], float | None]:
    """Return a function that looks up a number in nested mappings.

    Args:
        path: Keys from the outermost to the innermost mapping.

    Returns:
        A function from the content of ``diagnostics.json`` to the number, None if it is missing.

    Example:
        >>> ece = number_at("calibration", "multi", "ece")
        >>> ece({"calibration": {"multi": {"ece": 0.1}}}), ece({"calibration": {}})
        (0.1, None)
    """

    def look_up(numbers: Mapping[str, Any]) -> float | None:
        node: Any = numbers
        for key in path:
            node = node.get(key) if isinstance(node, Mapping) else None
        return None if node is None else float(node)

    return look_up


def draw_over_epochs(
    diagnostics: BlockDiagnostics,
    panels: Mapping[str, str],
    unit: str,
    *,
    scale: float = 1.0,
    zero: bool = False,
) -> Figure | None:
    """Draw measures over epochs, a panel per measure and a line per column: means over seeds.

    Args:
        diagnostics: The diagnostics.
        panels: Column of ``metrics.csv`` -> title of its panel.
        unit: Label of the vertical axis.
        scale: Factor of the values.
        zero: Whether to draw a line at zero.

    Returns:
        The figure, None if no run has any of the measures.
    """
    lines = {
        key: {
            label: means
            for label in diagnostics.epochs
            if (means := diagnostics.mean_curve(label, key))
        }
        for key in panels
    }
    keys = [key for key in panels if lines[key]]
    if not keys:
        return None
    styles = line_styles(list(diagnostics.epochs))
    has_bands = any(len(diagnostics.curve(label, keys[0])) > 1 for label in lines[keys[0]])
    num_columns = min(len(keys), 4)
    num_rows = -(-len(keys) // num_columns)
    with style():
        figure = new_figure(max(7.0, 1.9 + 2.9 * num_columns), 0.9 + 2.3 * num_rows)
        axes = figure.subplots(num_rows, num_columns, squeeze=False)
        for axis in axes.flat[len(keys) :]:
            axis.set_visible(False)
        for axis, key in zip(axes.flat, keys, strict=False):
            for label, means in lines[key].items():
                axis.plot(
                    list(means),
                    [scale * value for value in means.values()],
                    label=label,
                    gid=GID + label,
                    marker="o" if len(means) == 1 else "",
                    **styles[label],
                )
                band = diagnostics.band(label, key) if is_prominent(styles[label]) else {}
                axis.fill_between(
                    list(band),
                    [scale * low for low, _ in band.values()],
                    [scale * high for _, high in band.values()],
                    color=styles[label]["color"],
                    alpha=0.12,
                    linewidth=0,
                    gid=GID + label,
                )
            if zero:
                axis.axhline(0, color="#888888", linewidth=0.8)
            axis.set_title(panels[key], loc="left")
            axis.grid(color="#E5E5E5", linewidth=0.6)
            axis.xaxis.get_major_locator().set_params(integer=True)
        for axis in axes[-1]:
            axis.set_xlabel("epoch")
        for row in axes:
            row[0].set_ylabel(unit)
        handles = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
        labels = [label for label in diagnostics.epochs if label in handles]
        figure.legend(
            [handles[label] for label in labels], labels, loc="outside right upper", frameon=False
        )
        statistic = ": mean over seeds, band: ± sd" if has_bands else ""
        figure.suptitle(
            f"{diagnostics.title}{statistic}", x=0.01, ha="left", fontsize=10, fontweight="bold"
        )  # the legend is at the right
    return figure


def laziness(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the score of each modality's own logits and of its probe over epochs."""
    split = "test" if diagnostics.protocol == "paper" else "validation"
    own = "own predictions" if diagnostics.task == REGRESSION else "own logits"
    panels = {
        columns.validation(primary_of(diagnostics.task).column, m): f"{m}: {own}, {split}"
        for m in diagnostics.modalities
    }
    metric = diagnostics.metric
    probes = {
        columns.probe(primary_of(diagnostics.task).column, m): f"{m}: ridge probe, validation"
        for m in diagnostics.modalities
    }
    if any(diagnostics.keys(key) for key in probes):
        panels |= probes
    unit = f"{metric.label}{metric.axis_unit}"
    return draw_over_epochs(diagnostics, panels, unit, scale=metric.scale)


def forgetting(
    diagnostics: BlockDiagnostics,
    measure: str = "loss",
    unit: str = "change of loss (thousandths)",
    *,
    lower_is_better: bool = True,
) -> Figure | None:
    """Draw the effect of each step on each modality, a matrix per column, mean over epochs.

    Args:
        diagnostics: The diagnostics.
        measure: ``loss`` or a score such as ``acc`` of the whole step; ``own_loss`` or ``own_acc``
            of the step's own gradient alone.
        unit: Label of the colour bar; values are in thousandths.
        lower_is_better: Whether a decrease is an improvement, which is blue.

    Returns:
        The figure, None if no step is on a single modality.
    """
    matrices: dict[str, list[list[float]]] = {}
    names = diagnostics.modalities
    for label in diagnostics.epochs:
        values = [
            [diagnostics.curve(label, columns.forgetting(measure, step, name)) for name in names]
            for step in names
        ]
        if any(curves for row in values for curves in row):
            matrices[label] = [[_mean_of(curves) for curves in row] for row in values]
    if not matrices:
        return None
    cells = [  # of other modalities than the step's: the diagonal would take the whole scale
        value
        for matrix in matrices.values()
        for y, row in enumerate(matrix)
        for x, value in enumerate(row)
        if x != y
    ]
    limit = max((abs(value) for value in cells if not math.isnan(value)), default=0) or 1
    with style():
        size = 0.55 * len(names)
        num_columns = min(len(matrices), 5)
        num_rows = -(-len(matrices) // num_columns)
        figure = new_figure(1.6 + (1.0 + size) * num_columns, 1.2 + (0.9 + size) * num_rows)
        axes = figure.subplots(num_rows, num_columns, squeeze=False)
        for axis in axes.flat[len(matrices) :]:
            axis.set_visible(False)
        for axis, (label, matrix) in zip(axes.flat, matrices.items(), strict=False):
            axis.set_gid(GID + label)
            colours = "RdBu_r" if lower_is_better else "RdBu"
            image = axis.imshow(matrix, cmap=colours, vmin=-limit, vmax=limit)
            for y, row in enumerate(matrix):
                for x, value in enumerate(row):
                    if math.isnan(value):
                        continue  # the column was trained without this modality
                    colour = "white" if abs(value) > 0.6 * limit else "black"
                    axis.text(x, y, f"{value:+.1f}", ha="center", va="center", color=colour)
            axis.set_title(label, loc="left")
            axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
            axis.set_yticks(range(len(names)), names)
        axes[0][0].set_ylabel("step on")
        figure.colorbar(image, ax=axes, shrink=0.8, label=unit)
        figure.suptitle(diagnostics.title, fontsize=10, fontweight="bold")
    return figure


def _mean_of(seeds: Sequence[Mapping[int, float]]) -> float:
    """Return the mean over epochs and seeds in thousandths; NaN without seeds."""
    return 1000 * fmean(fmean(seed.values()) for seed in seeds) if seeds else math.nan


def own_forgetting(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the effect of each step's own gradient alone on the loss of each modality."""
    return forgetting(diagnostics, "own_loss")


def accuracy_forgetting(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the effect of each step on each modality's accuracy, or the primary metric."""
    metric = diagnostics.metric
    return forgetting(
        diagnostics,
        primary_of(diagnostics.task).column,
        f"change of {metric.label} (thousandths)",
        lower_is_better=metric.lower_is_better,
    )


def forgetting_over_epochs(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the effect on the other modalities' loss over epochs: whole step and own gradient.

    The title of a panel, ``a > b``, names the modality of the step and that of the loss.
    """
    pairs = [(a, b) for a in diagnostics.modalities for b in diagnostics.modalities if a != b]
    kinds = {"loss": "whole step", "own_loss": "own gradient"}
    panels = {
        columns.forgetting(kind, a, b): f"{a} > {b}: {name}"
        for kind, name in kinds.items()
        for a, b in pairs
    }
    unit = "change of loss (thousandths)"
    return draw_over_epochs(diagnostics, panels, unit, scale=1000, zero=True)


def angles(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the cosine similarities of the modalities' gradients of the shared head."""
    kinds = {"raw": "gradients", "edited": "modified gradients", "applied": "weight updates"}
    panels = {}
    for key in diagnostics.keys(columns.GRADIENT):
        _, kind, a, b = key.split("/")
        panels[key] = f"{a} · {b}: {kinds[kind]}"
    return draw_over_epochs(diagnostics, panels, "cosine similarity", zero=True)


def projector(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the eigenvalues of the projectors over epochs."""
    statistics = {"trace": "mean", "smallest": "smallest", "median": "median"}
    panels = {}
    for key in diagnostics.keys(columns.PROJECTOR):
        _, statistic, name = key.split("/")
        panels[key] = f"{name}: {statistics[statistic]}"
    return draw_over_epochs(diagnostics, panels, "eigenvalue", zero=True)


def contribution(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the Shapley values of the modalities, and which modalities predict correctly.

    Values above zero are an improvement. Only classes are predicted correctly or not.
    """
    labels = diagnostics.labels
    if not labels:
        return None
    modalities, metric = diagnostics.modalities, diagnostics.metric
    if diagnostics.task and not any(final.get("shapley") for final in _finals(diagnostics)):
        return None
    colours = modality_colours(modalities)
    scale = metric.sign * metric.scale
    with style():
        width, num_panels = (6.5, 1) if diagnostics.task else (9.5, 2)
        figure = new_figure(width, 1.5 + 0.3 * len(labels))
        left, *right = figure.subplots(1, num_panels, sharey=True, squeeze=False)[0]
        for line, label in enumerate(labels):
            ends = {1: 0.0, -1: 0.0}
            means = {m: diagnostics.mean(label, number_at("shapley", m)) for m in modalities}
            if all(mean is None for mean in means.values()):
                left.text(0, line, " –", va="center", gid=GID + label)
            for name, mean in means.items():
                if mean is None:
                    continue  # the column was trained without this modality
                value = scale * mean
                side = 1 if value >= 0 else -1
                _bar(left, line, ends[side], value, colours[name], label)
                ends[side] += value
            for axis in right:
                _agreement_bar(axis, line, label, diagnostics, colours)
        left.set_yticks(range(len(labels)), labels)
        left.set_ylim(len(labels) - 0.4, -0.6)
        left.axvline(0, color="#888888", linewidth=0.8)
        unit = f"percentage points of {metric.label}" if metric.percent else f"in {metric.label}"
        if metric.lower_is_better:
            unit = f"decrease of {metric.label}"
        left.set_xlabel(f"Shapley value ({unit})")
        for axis in right:
            axis.set_xlabel(f"{diagnostics.split} samples predicted correctly by (%)")
        _add_legend(figure, {**colours, **(SHARED if right else {})})
        figure.suptitle(diagnostics.title, fontsize=10, fontweight="bold")
    return figure


def _finals(diagnostics: BlockDiagnostics) -> Iterator[Mapping[str, Any]]:
    for finals in diagnostics.finals.values():
        yield from finals


def _agreement_bar(
    axis: Axes, line: int, label: str, diagnostics: BlockDiagnostics, colours: Mapping[str, str]
) -> None:
    start = 0.0
    groups = [*(f"only_{m}" for m in colours), "several", "only_together", "never"]
    for group, colour in zip(groups, [*colours.values(), *SHARED.values()], strict=True):
        value = 100 * (diagnostics.mean(label, number_at("agreement", group)) or 0.0)
        _bar(axis, line, start, value, colour, label)
        start += value


def _bar(axis: Axes, line: int, start: float, width: float, colour: str, label: str) -> None:
    bars = axis.barh(line, width, left=start, height=0.7, color=colour, edgecolor="white")
    for patch in bars:
        patch.set_gid(GID + label)


def _add_legend(figure: Figure, colours: Mapping[str, str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
