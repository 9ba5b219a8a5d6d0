"""Reliability diagrams: confidence against accuracy, of each modality and of the fused answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.style import GID, new_figure, paint, style
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.report.read.run import MULTI

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Bins of equal width, as the runs have them.
NUM_BINS = 15


def by_mass(found: BlockDiagnostics) -> Figure | None:
    """Draw reliability in bins of equally many samples."""
    return _reliability(found, "mass")


def by_width(found: BlockDiagnostics) -> Figure | None:
    """Draw reliability in bins of equal width."""
    return _reliability(found, "width")


def pooled(seeds: Sequence[Mapping[str, Any]], kind: str) -> list[tuple[float, float]]:
    """Pool the bins of several seeds.

    Args:
        seeds: ``num``, ``confidence`` and ``accuracy`` of each bin; empty ones are left out.
        kind: ``mass``: bins with the same number belong together; ``width``: those of the same
            interval.

    Returns:
        Mean confidence and accuracy of each bin, over the samples of all seeds.
    """
    sums: dict[int, list[float]] = {}
    for seed in seeds:
        bins = zip(seed["num"], seed["confidence"], seed["accuracy"], strict=True)
        for number, (num, confidence, accuracy) in enumerate(bins):
            # A mean lies in its right-closed interval, up to rounding.
            place = number if kind == "mass" else ceil(confidence * NUM_BINS - 1e-9)
            of = sums.setdefault(place, [0.0, 0.0, 0.0])
            for at, value in enumerate((num, num * confidence, num * accuracy)):
                of[at] += value
    return [(sure / num, right / num) for _, (num, sure, right) in sorted(sums.items())]


def _reliability(found: BlockDiagnostics, kind: str) -> Figure | None:
    names = [
        name
        for name in (*found.modalities, MULTI)
        if any(name in one["calibration"] for seeds in found.finals.values() for one in seeds)
    ]
    if not names:
        return None
    looks = paint(list(found.epochs))
    words = {"before": "as trained", "after": "after temperature scaling"}
    with style():
        figure = new_figure(1.9 + 2.5 * len(names), 5.4)
        axes = figure.subplots(2, len(names), sharex=True, sharey=True, squeeze=False)
        for row, (when, title) in zip(axes, words.items(), strict=True):
            for axis, name in zip(row, names, strict=True):
                axis.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle="--")
                for label, seeds in found.finals.items():
                    bins = [
                        one["calibration"][name][when][kind]
                        for one in seeds
                        if name in one["calibration"]
                    ]
                    if bins:
                        axis.plot(
                            *zip(*pooled(bins, kind), strict=True),
                            marker="o",
                            markersize=3,
                            label=label,
                            gid=GID + label,
                            **looks[label],
                        )
                axis.set_title(f"{name}, {title}", loc="left", fontsize=8)
                axis.grid(color="#E5E5E5", linewidth=0.6)
            row[0].set_ylabel(f"share right, {found.split}")
        for axis in axes[-1]:
            axis.set_xlabel("confidence")
        legend(figure, list(axes.flat))
        figure.suptitle(found.title, fontsize=10, fontweight="bold")
    return figure


def legend(figure: Figure, axes: Sequence[Any]) -> None:
    """Name the lines of several axes once, beside them."""
    handles: Mapping[str, Any] = {
        line.get_label(): line
        for axis in axes
        for line in axis.get_lines()
        if not str(line.get_label()).startswith("_")
    }
    figure.legend([*handles.values()], [*handles], loc="outside right upper", frameon=False)
