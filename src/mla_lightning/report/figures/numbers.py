"""Numbers of a figure: a table for screen readers and copying, and tooltips."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mla_lightning.report.document.table import BLANK, Cell, Row, Section, Table
from mla_lightning.report.figures.beside import beside
from mla_lightning.report.figures.style import GID, TOOLTIP_SEPARATOR
from mla_lightning.report.read.metrics import LOWER_IS_BETTER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

#: Maximum number of points of a curve in the table, evenly spaced and including the last.
MAX_POINTS = 20


def figure_table(figure: Figure) -> Table | None:
    """Extract the numbers that a figure shows for each column.

    Args:
        figure: A figure whose elements have the ids of :data:`~.style.GID`.

    Returns:
        The table that the figure brings, or one with a section per panel; None for scatter plots,
        for figures without such ids, and for figures whose elements have tooltips already, which a
        table accompanies. A line whose label is not its column is of a part of it, such as a
        modality, which the row names.

    Example:
        >>> from mla_lightning.report.figures.style import new_figure
        >>> figure = new_figure(3.0, 2.0)
        >>> _ = figure.subplots().plot([1, 2], [40.0, 50.0], gid=GID + "MLA")
        >>> table = figure_table(figure)
        >>> table.columns, [cell.text for cell in table.sections[0].rows[0].cells]
        (('1', '2'), ['40', '50'])
    """
    if (own := beside(figure).numbers) is not None:
        return own
    sections = []
    for axis in figure.axes:
        rows = [*_bars(axis, figure), *_lines(axis)]
        if rows:
            sections.append((axis.get_title(loc="left") or axis.get_xlabel(), rows))
    if not sections:
        return None
    headers = {header for _, rows in sections for _, header, _ in rows}
    width = max(len(values) for _, rows in sections for _, _, values in rows)
    is_shared = len(headers) == 1
    columns = next(iter(headers)) if is_shared else tuple(map(str, range(1, width + 1)))
    return Table(
        slug="",
        title="",
        corner="",
        columns=columns,
        sections=tuple(
            Section(
                title,
                tuple(
                    row
                    for label, header, values in rows
                    for row in _rows(label, header, values, width, with_header=not is_shared)
                ),
            )
            for title, rows in sections
        ),
    )


def add_tooltips(figure: Figure) -> None:
    """Add the values of each line and bar to its id, from which the page makes tooltips.

    Args:
        figure: The figure; ids change from ``column:NAME`` to ``column:NAME`` +
            :data:`TOOLTIP_SEPARATOR` + values.

    Example:
        >>> from mla_lightning.report.figures.style import new_figure
        >>> figure = new_figure(3.0, 2.0)
        >>> (line,) = figure.subplots().plot([1, 2], [50.0, 40.0], gid=GID + "MLA")
        >>> add_tooltips(figure)
        >>> line.get_gid().partition(TOOLTIP_SEPARATOR)[2]
        '40 at 2, maximum 50 at 1'
    """
    names = _legend(figure)
    is_lower_better = any(LOWER_IS_BETTER in axis.get_ylabel() for axis in figure.axes)
    for axis in figure.axes:
        row_names = _row_names(axis)
        for line in axis.get_lines():
            gid = str(line.get_gid() or "")
            if gid.startswith(GID) and TOOLTIP_SEPARATOR not in gid:
                tooltip = f"{_part(line)} {_tooltip(line, row_names, is_lower_better)}".strip()
                line.set_gid(f"{line.get_gid()}{TOOLTIP_SEPARATOR}{tooltip}")
        for patch in axis.patches:
            if str(patch.get_gid() or "").startswith(GID):
                name = names.get(_colour(patch), "")
                value = _short(float(patch.get_width()))  # type: ignore[attr-defined]
                tooltip = f"{name} {value}".strip()
                patch.set_gid(f"{patch.get_gid()}{TOOLTIP_SEPARATOR}{tooltip}")


def _tooltip(line: Line2D, row_names: Mapping[float, str], is_lower_better: bool) -> str:
    x, y = _points(line)
    if len(set(y)) == 1 and y[0] in row_names:  # a horizontal line in a named row
        return f"{row_names[y[0]]} {' to '.join(_short(value) for value in x)}"
    find, word = (min, "minimum") if is_lower_better else (max, "maximum")
    best = find(range(len(y)), key=y.__getitem__)
    last = f"{_short(y[-1])} at {_short(x[-1])}"
    return last if best == len(y) - 1 else f"{last}, {word} {_short(y[best])} at {_short(x[best])}"


def _points(line: Line2D) -> tuple[list[float], list[float]]:
    import numpy as np

    x, y = (np.asarray(values, dtype=float).tolist() for values in line.get_data())
    return x, y


def _row_names(axis: Axes) -> dict[float, str]:
    """Return the names of the rows of a panel by position; empty for a numeric vertical axis."""
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    formatter = axis.yaxis.get_major_formatter()
    if not isinstance(formatter, (FixedFormatter, FuncFormatter)):
        return {}
    return {float(y): formatter(y, index) for index, y in enumerate(axis.get_yticks())}


def _colour(patch: Patch) -> str:
    from matplotlib.colors import to_hex

    return to_hex(patch.get_facecolor())


def _legend(figure: Figure) -> dict[str, str]:
    """Return the names of the bars by colour, from the legends."""
    from matplotlib.patches import Patch

    return {
        _colour(handle): text.get_text()
        for legend in figure.legends
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True)
        if isinstance(handle, Patch)
    }


#: Label of a row, headers of its values, and its values.
LabelledValues = tuple[str, tuple[str, ...], list[str]]


def _rows(
    label: str, header: Sequence[str], values: Sequence[str], width: int, *, with_header: bool
) -> Iterator[Row]:
    if with_header:
        yield _row(f"{label}, at", header, width)
    yield _row(label, values, width)


def _row(label: str, texts: Sequence[str], width: int) -> Row:
    padded = [*texts, *[BLANK] * (width - len(texts))]
    return Row(label, tuple(map(Cell, padded)))


def _lines(axis: Axes) -> Iterator[LabelledValues]:
    row_names = _row_names(axis)
    drawn = set()
    for line in axis.get_lines():
        gid = str(line.get_gid() or "")
        if not gid.startswith(GID) or TOOLTIP_SEPARATOR in gid:
            continue
        x, y = _points(line)
        name = _part(line) or gid.removeprefix(GID)
        if row_names:
            if len(x) == 2:
                yield row_names[y[0]], ("from", "to"), [_short(value) for value in x]
        elif (gid, name) not in drawn:
            drawn.add((gid, name))
            step = -(-len(x) // MAX_POINTS)
            points = sorted({*range(0, len(x), step), len(x) - 1})
            header = tuple(_short(x[point]) for point in points)
            yield name, header, [_short(y[point]) for point in points]


def _part(line: Line2D) -> str:
    """Return what a line is of within its column; empty for a line of the whole column."""
    label, column = str(line.get_label()), str(line.get_gid()).removeprefix(GID)
    return "" if label.startswith("_") or label == column else label


def _bars(axis: Axes, figure: Figure) -> Iterator[LabelledValues]:
    names = _legend(figure)
    widths: dict[str, dict[str, str]] = {}
    for patch in axis.patches:
        gid = str(patch.get_gid() or "")
        if gid.startswith(GID):
            name = names.get(_colour(patch), "value")
            width = patch.get_width()  # type: ignore[attr-defined]
            widths.setdefault(gid.removeprefix(GID), {})[name] = _short(float(width))
    for label, by_name in widths.items():
        yield label, tuple(by_name), list(by_name.values())


def _short(value: float) -> str:
    return BLANK if math.isnan(value) else f"{value:.4g}"
