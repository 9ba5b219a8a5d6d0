"""Reliability diagrams: accuracy over confidence, of each modality and of the fused logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.style import GID, line_styles, new_figure, style
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.report.read.run import MULTI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Number of bins of equal width in the diagnostics of a run.
NUM_BINS = 15


def by_mass(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw reliability diagrams with bins of equally many samples."""
    return _reliability(diagnostics, "mass")


def by_width(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw reliability diagrams with bins of equal width."""
    return _reliability(diagnostics, "width")


def pooled(seeds: Sequence[Mapping[str, Any]], kind: str) -> list[tuple[float, float]]:
    """Pool the bins of several seeds.

    Args:
        seeds: ``num``, ``confidence`` and ``accuracy`` of each non-empty bin of each seed.
        kind: ``mass`` pools bins by index, ``width`` by interval of confidence.

    Returns:
        Mean confidence and accuracy of each bin over the samples of all seeds.

    Example:
        >>> first = {"num": [3], "confidence": [0.8], "accuracy": [1.0]}
        >>> second = {"num": [1], "confidence": [0.4], "accuracy": [0.0]}
        >>> pooled([first, second], "mass")
        [(0.7..., 0.75)]
        >>> pooled([first, second], "width")
        [(0.4, 0.0), (0.8..., 1.0)]
    """
    sums: dict[int, list[float]] = {}
    for seed in seeds:
        bins = zip(seed["num"], seed["confidence"], seed["accuracy"], strict=True)
        for index, (num, confidence, accuracy) in enumerate(bins):
            # A mean lies in its right-closed interval, up to rounding.
            bin_index = index if kind == "mass" else ceil(confidence * NUM_BINS - 1e-9)
            bin_sums = sums.setdefault(bin_index, [0.0, 0.0, 0.0])
            for place, value in enumerate((num, num * confidence, num * accuracy)):
                bin_sums[place] += value
    return [
        (confidence / num, correct / num) for _, (num, confidence, correct) in sorted(sums.items())
    ]


def _reliability(diagnostics: BlockDiagnostics, kind: str) -> Figure | None:
    names = [
        name
        for name in (*diagnostics.modalities, MULTI)
        if any(
            name in final["calibration"]
            for finals in diagnostics.finals.values()
            for final in finals
        )
    ]
    if not names:
        return None
    styles = line_styles(list(diagnostics.epochs))
    titles = {"before": "before scaling", "after": "after temperature scaling"}
    with style():
        figure = new_figure(1.9 + 2.5 * len(names), 5.4)
        axes = figure.subplots(2, len(names), sharex=True, sharey=True, squeeze=False)
        for row, (when, title) in zip(axes, titles.items(), strict=True):
            for axis, name in zip(row, names, strict=True):
                axis.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle="--")
                for label, finals in diagnostics.finals.items():
                    bins = [
                        final["calibration"][name][when][kind]
                        for final in finals
                        if name in final["calibration"]
                    ]
                    if bins:
                        axis.plot(
                            *zip(*pooled(bins, kind), strict=True),
                            marker="o",
                            markersize=3,
                            label=label,
                            gid=GID + label,
                            **styles[label],
                        )
                axis.set_title(f"{name}, {title}", loc="left", fontsize=8)
                axis.grid(color="#E5E5E5", linewidth=0.6)
            row[0].set_ylabel(f"accuracy, {diagnostics.split}")
        for axis in axes[-1]:
            axis.set_xlabel("confidence")
        legend(figure, list(axes.flat))
        figure.suptitle(diagnostics.title, fontsize=10, fontweight="bold")
    return figure


def legend(figure: Figure, axes: Sequence[Any]) -> None:
    """Add one legend for the lines of several axes, at the right."""
    handles: Mapping[str, Any] = {
        line.get_label(): line
        for axis in axes
        for line in axis.get_lines()
        if not str(line.get_label()).startswith("_")
    }
    figure.legend([*handles.values()], [*handles], loc="outside right upper", frameon=False)
