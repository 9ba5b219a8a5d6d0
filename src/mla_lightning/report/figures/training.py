"""Figures of the diagnostics: laziness, gradients and contributions.

The id of every element names its column, by which readers of the page choose columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.beside import beside
from mla_lightning.report.figures.lines import (
    draw_band,
    is_prominent,
    line_legend,
    line_styles,
    name_rows,
)
from mla_lightning.report.figures.style import (
    GID,
    GRID,
    ONE_COLUMN,
    SHARED,
    TWO_COLUMNS,
    fitted,
    modality_colours,
    new_figure,
    set_title,
    style,
)
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.run_folder import columns
from mla_lightning.run_folder.tasks import REGRESSION, primary_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Largest number of panels of a figure over epochs, so that it fits a page.
MAX_PANELS = 15


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
    keys, remark = _most_changing(keys, lines)
    labels = list(diagnostics.epochs)
    styles = line_styles(labels)
    has_bands = any(len(diagnostics.curve(label, keys[0])) > 1 for label in lines[keys[0]])
    num_columns = 2 if len(keys) == 4 else min(len(keys), 3)
    num_rows = -(-len(keys) // num_columns)
    with style():
        width = ONE_COLUMN if len(keys) == 1 else TWO_COLUMNS
        figure = new_figure(width, 1.1 + 1.7 * num_rows)
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
                low = [scale * low for low, _ in band.values()]
                high = [scale * high for _, high in band.values()]
                draw_band(axis, label, list(band), low, high, styles[label])
            if zero:
                axis.axhline(0, color="#888888", linewidth=0.8)
            axis.set_title(fitted(panels[key], 0.8 * width / num_columns), loc="left")
            axis.grid(color=GRID, linewidth=0.6)
            axis.xaxis.get_major_locator().set_params(integer=True)
        for axis in axes.flat[max(0, len(keys) - num_columns) : len(keys)]:
            axis.set_xlabel("epoch")
        for row in axes:
            row[0].set_ylabel(fitted(unit, 1.5))
        line_legend(figure, labels)
        statistic = ": mean over seeds, band: ± sd" if has_bands else ""
        set_title(figure, f"{diagnostics.title}{statistic}")
        beside(figure).remark = remark
    return figure


def _most_changing(
    keys: Sequence[str], lines: Mapping[str, Mapping[str, Mapping[int, float]]]
) -> tuple[list[str], str]:
    """Return the panels with the largest values, as many as a page holds, and what is left out."""
    if len(keys) <= MAX_PANELS:
        return list(keys), ""
    largest = {
        key: max(abs(value) for means in lines[key].values() for value in means.values())
        for key in keys
    }
    chosen = sorted(keys, key=lambda key: -largest[key])[:MAX_PANELS]
    remark = f"Drawn: the {MAX_PANELS} of {len(keys)} measures with the largest values."
    return [key for key in keys if key in chosen], remark


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
        figure = new_figure(TWO_COLUMNS, 1.15 + 0.22 * len(labels))
        num_panels = 1 if diagnostics.task else 2
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
        name_rows(left, labels)
        left.axvline(0, color="#888888", linewidth=0.8)
        unit = f"percentage points of {metric.label}" if metric.percent else f"in {metric.label}"
        if metric.lower_is_better:
            unit = f"decrease of {metric.label}"
        left.set_xlabel(fitted(f"Shapley value ({unit})", 0.85 * TWO_COLUMNS / num_panels))
        for axis in right:
            text = f"{diagnostics.split} samples predicted correctly by (%)"
            axis.set_xlabel(fitted(text, 0.85 * TWO_COLUMNS / num_panels))
        _add_legend(figure, {**colours, **(SHARED if right else {})})
        set_title(figure, diagnostics.title)
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
    figure.legend(handles=handles, loc="outside lower left", ncols=5)
