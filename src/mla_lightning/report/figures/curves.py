"""Learning curves: accuracy over epochs, from the runs' own epoch tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.style import GID, new_figure, paint, style
from mla_lightning.report.read.block import Block
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.run_folder.columns import validation
from mla_lightning.run_folder.reader import RunFiles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Curves:
    """Accuracy in percent after each epoch.

    Attributes:
        lines: Modality or ``multi`` -> column -> seed -> values; NaN for epochs without, such as
            those of a stage that runs share.
        split: Whose accuracy it is: ``validation``, or ``test`` with ``protocol=paper``.
    """

    lines: Mapping[str, Mapping[str, Mapping[int, tuple[float, ...]]]]
    split: str = "validation"

    @property
    def epochs(self) -> int:
        """Number of epochs of the longest line; 0 if there is none."""
        lengths = [
            len(v) for by in self.lines.values() for seeds in by.values() for v in seeds.values()
        ]
        return max(lengths, default=0)


def read_curves(block: Block, names: Sequence[str]) -> Curves:
    """Read the curves of a block's finished runs.

    Args:
        block: The block.
        names: Modalities and ``multi``.

    Returns:
        The curves; empty for runs that were read from a table, which holds none.
    """
    lines: dict[str, dict[str, dict[int, tuple[float, ...]]]] = {name: {} for name in names}
    for variant in block.variants:
        for seed, run in sorted(block.runs_by_variant[variant].items()):
            if run.path is None or not run.is_finished:
                continue
            epochs = RunFiles(run.path).metrics
            for name in names:
                key = validation("acc", name)
                values = tuple(100 * epoch.get(key, math.nan) for epoch in epochs)
                if not all(map(math.isnan, values)):
                    lines[name].setdefault(variant.label, {})[seed] = values
    return Curves(lines, "test" if block.protocol == "paper" else "validation")


def curves_of(found: BlockDiagnostics, names: Sequence[str]) -> Curves:
    """Take the curves out of what was read of a block's runs.

    Args:
        found: What was read.
        names: Modalities and ``multi``.

    Returns:
        The curves, seeds numbered in their order.
    """
    keys = {name: validation("acc", name) for name in names}
    return Curves(
        {
            name: {
                label: {
                    place: tuple(100 * values.get(at, math.nan) for at in range(1, max(values) + 1))
                    for place, values in enumerate(seeds)
                }
                for label in found.epochs
                if (seeds := found.curve(label, key))
            }
            for name, key in keys.items()
        },
        "test" if found.protocol == "paper" else "validation",
    )


def curves_figure(curves: Curves, title: str) -> Figure:
    """Draw a panel per modality and for multi: a column's mean over seeds, a band of ± sd.

    Args:
        curves: The curves.
        title: What was trained.

    Returns:
        The figure.
    """
    names = [name for name, by_label in curves.lines.items() if by_label]
    labels = list(dict.fromkeys(label for name in names for label in curves.lines[name]))
    looks = paint(labels)
    with style():
        figure = new_figure(2.2 + 3.2 * len(names), max(3.2, 1.4 + 0.2 * len(labels)))
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        for axis, name in zip(axes, names, strict=True):
            for label in labels:
                seeds = curves.lines[name].get(label, {})
                if seeds:
                    _line(axis, label, list(seeds.values()), looks[label])
            axis.set_title(name, loc="left", fontweight="bold")
            axis.set_xlabel("epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.set_xlim(1, max(2, curves.epochs))
            axis.grid(color="#E5E5E5", linewidth=0.6)
        axes[0].set_ylabel(f"{curves.split} accuracy, percent")
        drawn = {str(line.get_label()): line for axis in axes for line in axis.get_lines()}
        figure.legend(
            [drawn[label] for label in labels], labels, loc="outside right upper", frameon=False
        )
        has_bands = any(len(by) > 1 for lines in curves.lines.values() for by in lines.values())
        told = "mean over seeds, band ± sd" if has_bands else "one seed"
        figure.suptitle(f"{title}: {told}", fontsize=11, fontweight="bold")
    return figure


def _line(
    axis: Axes, label: str, seeds: Sequence[Sequence[float]], look: Mapping[str, Any]
) -> None:
    """Draw one column as far as all its seeds reach, in the epochs that all have."""
    whole = enumerate(zip(*seeds, strict=False), start=1)
    known = {at: column for at, column in whole if not any(map(math.isnan, column))}
    epochs, columns = list(known), list(known.values())
    means = [statistics.fmean(column) for column in columns]
    marker = "o" if len(means) == 1 else ""
    axis.plot(
        epochs,
        means,
        marker=marker,
        linewidth=1.6,
        label=label,
        gid=GID + label,
        **look,
    )
    if len(seeds) > 1:
        spreads = [statistics.stdev(column) for column in columns]
        low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
        high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
        band = axis.fill_between(epochs, low, high, color=look["color"], alpha=0.15, linewidth=0)
        band.set_gid(GID + label)
