"""Reliability diagrams: accuracy over confidence, a panel per method in question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.beside import beside
from mla_lightning.report.figures.lines import MAX_LINES, emphasis, in_question, left_out
from mla_lightning.report.figures.style import (
    GID,
    GREY,
    GRID,
    ONE_COLUMN,
    TWO_COLUMNS,
    fitted,
    modality_colours,
    new_figure,
    set_title,
    style,
)
from mla_lightning.report.figures.training import number_at
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.report.read.run import MULTI

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
    """Draw a panel per method in question, with a line per modality: before and after scaling."""
    finals = {
        label: seeds
        for label, seeds in diagnostics.finals.items()
        if any(final["calibration"] for final in seeds)
    }
    labels = in_question(list(finals))
    if not labels:
        return None
    modalities = diagnostics.modalities if len(diagnostics.modalities) < MAX_LINES else ()
    colours = modality_colours(modalities) | {MULTI: "black"}
    titles = {"before": "before scaling", "after": "after scaling"}
    with style():
        is_narrow = len(labels) <= 2
        width = ONE_COLUMN if is_narrow else TWO_COLUMNS
        figure = new_figure(width, 3.5)
        axes = figure.subplots(2, len(labels), sharex=True, sharey=True, squeeze=False)
        for row, when in zip(axes, titles, strict=True):
            for axis, label in zip(row, labels, strict=True):
                axis.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle="--")
                for name, colour in colours.items():
                    _line(axis, label, name, colour, finals[label], (when, kind))
                ece = diagnostics.mean(label, number_at("calibration", MULTI, when, kind, "ece"))
                if ece is not None:
                    text = f"ECE {100 * ece:.1f} %"
                    axis.text(0.98, 0.05, text, transform=axis.transAxes, ha="right")
                axis.set_gid(GID + label)
                axis.set_xticks([0, 0.5, 1])
                axis.set_yticks([0, 0.5, 1])
                axis.grid(color=GRID, linewidth=0.6)
                title = label if when == "before" else f"{label}, scaled"
                text = fitted(title, 0.8 * width / len(labels))
                axis.set_title(text, loc="left", **emphasis(label))
            row[0].set_ylabel(f"{diagnostics.split} accuracy,\n{titles[when]}")
        for axis in axes[-1]:
            axis.set_xlabel("confidence")
        handles = {str(line.get_label()): line for axis in axes.flat for line in axis.get_lines()}
        shown = [name for name in colours if name in handles]
        figure.legend(
            [handles[name] for name in shown],
            [f"{name} (fused)" if name == MULTI else name for name in shown],
            loc="outside lower left",
            ncols=3 if is_narrow else MAX_LINES,
        )
        set_title(figure, diagnostics.title)
        sentences = [left_out(list(finals), labels)]
        if not modalities:
            sentences.append(f"Only {MULTI} is drawn: {len(diagnostics.modalities)} modalities.")
        beside(figure).remark = " ".join(sentence for sentence in sentences if sentence)
    return figure


def _line(
    axis: Axes,
    label: str,
    name: str,
    colour: str,
    finals: Sequence[Mapping[str, Any]],
    bins_of: tuple[str, str],
) -> None:
    when, kind = bins_of
    seeds = [
        final["calibration"][name][when][kind] for final in finals if name in final["calibration"]
    ]
    if seeds:
        axis.plot(
            *zip(*pooled(seeds, kind), strict=True),
            marker="o",
            markersize=2.2,
            linewidth=1.5 if name == MULTI else 1.0,
            label=name,
            gid=GID + label,
            color=colour,
        )
