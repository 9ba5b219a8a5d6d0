"""Figures of the diagnostics. Everything of one column has its name as gid, for pages to choose."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.style import GID, SHARED, new_figure, paint, shades, style
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.run_folder import columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def numbered(*path: str) -> Callable[[Mapping[str, Any]], float | None]:
    """Make what finds a number in what was computed after training, by its keys."""

    def find(numbers: Mapping[str, Any]) -> float | None:
        node: Any = numbers
        for key in path:
            node = node.get(key) if isinstance(node, Mapping) else None
        return None if node is None else float(node)

    return find


def over_epochs(
    found: BlockDiagnostics,
    panels: Mapping[str, str],
    unit: str,
    *,
    scale: float = 1.0,
    zero: bool = False,
) -> Figure | None:
    """Draw measures over epochs, a panel each, a line per column: the mean over seeds.

    Args:
        found: The diagnostics.
        panels: Key of the epochs' table -> title of its panel.
        unit: What is on the vertical axis.
        scale: Values are multiplied by it.
        zero: Whether zero is marked.

    Returns:
        The figure, None where there is nothing.
    """
    lines = {
        key: {label: means for label in found.epochs if (means := found.mean_curve(label, key))}
        for key in panels
    }
    kept = [key for key in panels if lines[key]]
    if not kept:
        return None
    looks = paint(list(found.epochs))
    has_bands = any(len(found.curve(label, kept[0])) > 1 for label in lines[kept[0]])
    num_columns = min(len(kept), 4)
    num_rows = -(-len(kept) // num_columns)
    with style():
        figure = new_figure(max(7.0, 1.9 + 2.9 * num_columns), 0.9 + 2.3 * num_rows)
        axes = figure.subplots(num_rows, num_columns, squeeze=False)
        for axis in axes.flat[len(kept) :]:
            axis.set_visible(False)
        for axis, key in zip(axes.flat, kept, strict=False):
            for label, means in lines[key].items():
                axis.plot(
                    list(means),
                    [scale * value for value in means.values()],
                    label=label,
                    gid=GID + label,
                    linewidth=1.5,
                    marker="o" if len(means) == 1 else "",
                    **looks[label],
                )
                band = found.band(label, key)
                axis.fill_between(
                    list(band),
                    [scale * low for low, _ in band.values()],
                    [scale * high for _, high in band.values()],
                    color=looks[label]["color"],
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
        named = [label for label in found.epochs if label in handles]
        figure.legend(
            [handles[label] for label in named], named, loc="outside right upper", frameon=False
        )
        told = ": mean over seeds, band ± sd" if has_bands else ""
        figure.suptitle(
            f"{found.title}{told}", x=0.01, ha="left", fontsize=10, fontweight="bold"
        )  # the legend is at the right
    return figure


def laziness(found: BlockDiagnostics) -> Figure | None:
    """Draw each modality's own accuracy and its probe over epochs."""
    split = "test" if found.protocol == "paper" else "validation"
    panels = {columns.validation("acc", m): f"{m}: own logits, {split}" for m in found.modalities}
    if found.keys(columns.PROBE_ACCURACY):
        panels |= {
            f"{columns.PROBE_ACCURACY}{m}": f"{m}: ridge probe, validation"
            for m in found.modalities
        }
    return over_epochs(found, panels, "accuracy, percent", scale=100)


def forgetting(
    found: BlockDiagnostics, measure: str = "loss", unit: str = "change of loss, thousandths"
) -> Figure | None:
    """Draw what each step does to each modality, a panel per column, mean over epochs.

    Args:
        found: The diagnostics.
        measure: ``loss`` or ``acc``, or with ``own_`` before it, of the own gradient alone.
        unit: What it is, in thousandths.

    Returns:
        The figure, None where no step is that of a single modality.
    """
    matrices: dict[str, list[list[float]]] = {}
    names = found.modalities
    for label in found.epochs:
        values = [
            [found.curve(label, columns.forgetting(measure, step, name)) for name in names]
            for step in names
        ]
        if any(curves for row in values for curves in row):
            matrices[label] = [[_mean_of(curves) for curves in row] for row in values]
    if not matrices:
        return None
    cells = [value for matrix in matrices.values() for row in matrix for value in row]
    top = max((abs(value) for value in cells if not math.isnan(value)), default=0) or 1
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
            image = axis.imshow(
                matrix, cmap="RdBu" if "acc" in measure else "RdBu_r", vmin=-top, vmax=top
            )
            for y, row in enumerate(matrix):
                for x, value in enumerate(row):
                    if math.isnan(value):
                        continue  # a column without this modality
                    shade = "white" if abs(value) > 0.6 * top else "black"
                    axis.text(x, y, f"{value:+.1f}", ha="center", va="center", color=shade)
            axis.set_title(label, loc="left")
            axis.set_xticks(range(len(names)), names, rotation=30, ha="right")
            axis.set_yticks(range(len(names)), names)
        axes[0][0].set_ylabel("step on")
        figure.colorbar(image, ax=axes, shrink=0.8, label=unit)
        figure.suptitle(found.title, fontsize=10, fontweight="bold")
    return figure


def _mean_of(seeds: Sequence[Mapping[int, float]]) -> float:
    """Average over epochs and seeds, in thousandths; not a number for none."""
    return 1000 * fmean(fmean(seed.values()) for seed in seeds) if seeds else math.nan


def own_forgetting(found: BlockDiagnostics) -> Figure | None:
    """Draw the same for the step's own gradient alone."""
    return forgetting(found, "own_loss")


def accuracy_forgetting(found: BlockDiagnostics) -> Figure | None:
    """Draw the change of accuracy."""
    return forgetting(found, "acc", "change of accuracy, tenths of a point")


def forgetting_over_epochs(found: BlockDiagnostics) -> Figure | None:
    """Draw the others' change of loss over epochs, by the whole step and by its gradient alone."""
    pairs = [(a, b) for a in found.modalities for b in found.modalities if a != b]
    kinds = {"loss": "whole step", "own_loss": "own gradient"}
    panels = {
        columns.forgetting(kind, a, b): f"step on {a}, {b}: {words}"
        for kind, words in kinds.items()
        for a, b in pairs
    }
    return over_epochs(found, panels, "change of loss, thousandths", scale=1000, zero=True)


def angles(found: BlockDiagnostics) -> Figure | None:
    """Draw the cosines between the modalities' head gradients."""
    words = {"raw": "as computed", "edited": "after the modification", "applied": "movements"}
    panels = {}
    for key in found.keys(columns.GRADIENT):
        _, kind, a, b = key.split("/")
        panels[key] = f"{a} · {b}, {words[kind]}"
    return over_epochs(found, panels, "cosine", zero=True)


def projector(found: BlockDiagnostics) -> Figure | None:
    """Draw how much the projectors let through."""
    words = {"trace": "mean eigenvalue", "smallest": "smallest", "median": "median"}
    panels = {}
    for key in found.keys(columns.PROJECTOR):
        _, what, name = key.split("/")
        panels[key] = f"{name}: {words[what]}"
    return over_epochs(found, panels, "eigenvalue", zero=True)


def contribution(found: BlockDiagnostics) -> Figure | None:
    """Draw Shapley values, and who is right on how many samples."""
    labels = found.labels
    if not labels:
        return None
    looks = shades(found.modalities)
    with style():
        figure = new_figure(9.5, 1.5 + 0.3 * len(labels))
        left, right = figure.subplots(1, 2, sharey=True)
        for line, label in enumerate(labels):
            ends = {1: 0.0, -1: 0.0}
            means = {m: found.mean(label, numbered("shapley", m)) for m in found.modalities}
            if all(mean is None for mean in means.values()):
                left.text(0, line, " –", va="center", gid=GID + label)
            for name, mean in means.items():
                if mean is None:
                    continue  # a column without this modality
                value = 100 * mean
                side = 1 if value >= 0 else -1
                _bar(left, line, ends[side], value, looks[name], label)
                ends[side] += value
            start = 0.0
            parts = [*(f"only_{m}" for m in found.modalities), "several", "only_together", "never"]
            for part, colour in zip(parts, [*looks.values(), *SHARED.values()], strict=True):
                value = 100 * (found.mean(label, numbered("agreement", part)) or 0.0)
                _bar(right, line, start, value, colour, label)
                start += value
        left.set_yticks(range(len(labels)), labels)
        left.set_ylim(len(labels) - 0.4, -0.6)
        left.axvline(0, color="#888888", linewidth=0.8)
        left.set_xlabel("Shapley value, points of accuracy")
        right.set_xlabel(f"share of {found.split} samples answered right by, percent")
        _named(figure, {**looks, **SHARED})
        figure.suptitle(found.title, fontsize=10, fontweight="bold")
    return figure


def _bar(axis: Axes, line: int, start: float, width: float, colour: str, label: str) -> None:
    drawn = axis.barh(line, width, left=start, height=0.7, color=colour, edgecolor="white")
    for patch in drawn:
        patch.set_gid(GID + label)


def _named(figure: Figure, colours: Mapping[str, str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=name) for name, colour in colours.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
