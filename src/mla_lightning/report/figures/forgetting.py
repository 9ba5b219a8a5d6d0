"""Figures of forgetting: what a step on one modality does to the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import floor, log10, nan
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple

from mla_lightning.report.document.table import BLANK, Cell, Row, Section, Table, signed
from mla_lightning.report.figures.beside import beside
from mla_lightning.report.figures.lines import in_question, left_out
from mla_lightning.report.figures.style import (
    ABOVE,
    BELOW,
    GID,
    ONE_COLUMN,
    OWN,
    TWO_COLUMNS,
    new_figure,
    set_title,
    style,
)
from mla_lightning.report.figures.training import draw_over_epochs
from mla_lightning.report.read.diagnostics import BlockDiagnostics
from mla_lightning.report.read.significance import SIGNIFICANT, compare, holm
from mla_lightning.run_folder import columns
from mla_lightning.run_folder.tasks import primary_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Width and height of a cell, and what the names of rows and the space between maps need, in
#: inches.
CELL = (0.56, 0.42)
NAMES, GAP, TITLE = 0.95, 0.35, 0.75
#: Largest height of all maps together in inches; further methods are in the table alone.
MAX_HEIGHT = 8.5
#: Length of a name from which on the names below cells are slanted.
MAX_LETTERS = 8
#: Largest number of decimals of a change in thousandths.
MAX_DIGITS = 3
#: Maps beside each other: of the whole step on loss and score, and of its own gradient.
MAX_COLUMNS = 3


class Kind(NamedTuple):
    """What a map shows.

    Attributes:
        measure: The part of the column of ``metrics.csv``.
        title: Title.
        unit: Maps of one unit have one scale of colours.
        lower_is_better: Whether a decrease is an improvement.
    """

    measure: str
    title: str
    unit: str
    lower_is_better: bool


class Map(NamedTuple):
    """Changes of one column in thousandths: step -> modality -> value of each seed.

    Attributes:
        label: The column.
        kind: What is changed.
        seeds: The values, means over epochs; none for a modality that the column does not have.
    """

    label: str
    kind: Kind
    seeds: Mapping[str, Mapping[str, Sequence[float]]]

    @property
    def others(self) -> list[float]:
        """The means of the cells off the diagonal, which alone give the scale of the colours."""
        return [
            fmean(values)
            for step, by_name in self.seeds.items()
            for name, values in by_name.items()
            if values and step != name
        ]

    def text(self, step: str, name: str) -> str:
        """Return the mean of a cell, with the spread over seeds; empty for no values."""
        values = self.seeds[step][name]
        if not values:
            return ""
        spread = f" ± {stdev(values):.{self.digits}f}" if len(values) > 1 else ""
        return f"{signed(fmean(values), self.digits)}{spread}"

    @property
    def digits(self) -> int:
        """Number of decimals: two digits of the largest change of another modality, or more."""
        largest = max(map(abs, self.others), default=0.0)
        return min(MAX_DIGITS, max(1, 1 - floor(log10(largest)))) if largest else 1

    def significant(self) -> set[tuple[str, str]]:
        """Return the cells off the diagonal that differ significantly from no change.

        Paired t-tests over seeds, with Holm's correction over the cells of the map.
        """
        cells = [(a, b) for a in self.seeds for b in self.seeds[a] if a != b and self.seeds[a][b]]
        tests = []
        for step, name in cells:
            by_seed = dict(enumerate(self.seeds[step][name]))
            tests.append(compare(by_seed, dict.fromkeys(by_seed, 0.0)).p)
        corrected = zip(cells, holm(tests), strict=True)
        return {cell for cell, p in corrected if p is not None and p < SIGNIFICANT}


def kinds_of(diagnostics: BlockDiagnostics) -> tuple[Kind, ...]:
    """Return what is drawn: the whole step and its own gradient on the loss, the step on a score.

    Args:
        diagnostics: The diagnostics.

    Example:
        >>> diagnosed = BlockDiagnostics("openmoji", ("a", "b"), {}, {}, {}, {})
        >>> [kind.title for kind in kinds_of(diagnosed)]
        ['loss, by the whole step', 'loss, by its own gradient', 'accuracy, by the whole step']
    """
    metric = diagnostics.metric
    score = primary_of(diagnostics.task).column
    return (
        Kind("loss", "loss, by the whole step", "loss", True),
        Kind("own_loss", "loss, by its own gradient", "loss", True),
        Kind(score, f"{metric.label}, by the whole step", "score", metric.lower_is_better),
    )


def forgetting(diagnostics: BlockDiagnostics) -> Figure | None:
    """Draw the effect of each step on each modality, as maps beside each other.

    Args:
        diagnostics: The diagnostics.

    Returns:
        The figure, None if no step is on a single modality.
    """
    all_maps = [*_maps(diagnostics)]
    if not all_maps:
        return None
    names, labels = diagnostics.modalities, list(dict.fromkeys(item.label for item in all_maps))
    width, height = CELL[0] * len(names) + GAP, CELL[1] * len(names) + TITLE
    num_columns = min(max(1, int((TWO_COLUMNS - NAMES) / width)), MAX_COLUMNS)
    shown = in_question(labels, max(1, num_columns * int(MAX_HEIGHT / height) // MAX_COLUMNS))
    maps = [item for label in shown for item in all_maps if item.label == label]
    limits: dict[str, float] = {}
    for item in maps:
        largest = max(map(abs, item.others), default=0.0)
        limits[item.kind.unit] = max(largest, limits.get(item.kind.unit, 0.0))
    num_columns = min(len(maps), num_columns)
    num_rows = -(-len(maps) // num_columns)
    is_narrow = NAMES + num_columns * width <= ONE_COLUMN
    with style():
        figure = new_figure(ONE_COLUMN if is_narrow else TWO_COLUMNS, 0.65 + height * num_rows)
        axes = figure.subplots(num_rows, num_columns, squeeze=False)
        for axis in axes.flat[len(maps) :]:
            axis.set_visible(False)
        for axis, item in zip(axes.flat, maps, strict=False):
            _draw(axis, item, limits[item.kind.unit] or 1.0)
        for row in axes:
            row[0].set_yticks(range(len(names)), names)
            row[0].set_ylabel("step on")
        _legend(figure, is_narrow=is_narrow)
        title = f"{diagnostics.title}: change by a step, in thousandths"
        set_title(figure, title)
        beside(figure).numbers = _numbers(all_maps)
        beside(figure).remark = left_out(labels, shown)
    return figure


def _maps(diagnostics: BlockDiagnostics) -> Iterator[Map]:
    names = diagnostics.modalities
    for label in diagnostics.epochs:
        for kind in kinds_of(diagnostics):
            seeds = {
                step: {
                    name: [
                        1000 * fmean(curve.values())
                        for curve in diagnostics.curve(
                            label, columns.forgetting(kind.measure, step, name)
                        )
                    ]
                    for name in names
                }
                for step in names
            }
            if any(values for by_name in seeds.values() for values in by_name.values()):
                yield Map(label, kind, seeds)


def _draw(axis: Axes, item: Map, limit: float) -> None:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    names = list(item.seeds)
    sign = 1 if item.kind.lower_is_better else -1
    harm = [
        [sign * fmean(values) if values and step != name else nan for name, values in of.items()]
        for step, of in item.seeds.items()
    ]
    colours = LinearSegmentedColormap.from_list("harm", [ABOVE, "white", BELOW])
    axis.set_gid(GID + item.label)
    axis.imshow(harm, cmap=colours, vmin=-limit, vmax=limit, aspect="auto")
    significant = item.significant()
    for y, step in enumerate(names):
        for x, name in enumerate(names):
            text = item.text(step, name).replace(" ± ", "\n± ")
            if step == name and text:
                axis.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=OWN))
            is_dark = step != name and bool(text) and abs(harm[y][x]) > 0.7 * limit
            weight = "bold" if (step, name) in significant else "normal"
            colour = "white" if is_dark else "black"
            axis.text(x, y, text, ha="center", va="center", color=colour, fontweight=weight)
    axis.set_title(f"{item.label}\n{item.kind.title}", loc="left")
    axis.set_xticks(range(len(names)), names)
    if max(map(len, names)) > MAX_LETTERS:
        for tick in axis.get_xticklabels():
            tick.set(rotation=30, ha="right")
    axis.set_yticks([])
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _legend(figure: Figure, *, is_narrow: bool) -> None:
    from matplotlib.patches import Patch

    words = {BELOW: "worse: forgetting", ABOVE: "better", OWN: "the step's own modality"}
    handles = [Patch(color=colour, label=text) for colour, text in words.items()]
    figure.legend(handles=handles, loc="outside lower left", ncols=1 if is_narrow else 3)


def _numbers(maps: Sequence[Map]) -> Table:
    names = tuple(maps[0].seeds)
    sections = tuple(
        Section(
            f"{item.label}: {item.kind.title}, thousandths",
            tuple(
                Row(f"step on {step}", tuple(Cell(item.text(step, n) or BLANK) for n in names))
                for step in names
            ),
        )
        for item in maps
    )
    return Table("", "", "", names, sections)


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
