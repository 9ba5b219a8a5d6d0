"""The numbers of a drawn figure as a table, for keyboards, screen readers and copying."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mla_lightning.report.document.table import BLANK, Cell, Row, Section, Table
from mla_lightning.report.figures.style import GID, TELLS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

#: Most points of a curve that are told, evenly chosen and the last among them.
MOST_POINTS = 20


def data_of(figure: Figure) -> Table | None:
    """Read what a figure shows of its columns.

    Args:
        figure: A figure that draws each column under its name.

    Returns:
        A section per panel; None for clouds of points, for figures that name no column, and for
        those of a table, whose parts tell its numbers themselves.
    """
    sections = []
    for axis in figure.axes:
        rows = [*_matrix(axis), *_bars(axis, figure), *_lines(axis)]
        if rows:
            sections.append((axis.get_title(loc="left") or axis.get_xlabel(), rows))
    if not sections:
        return None
    heads = {head for _, rows in sections for _, head, _ in rows}
    width = max(len(values) for _, rows in sections for _, _, values in rows)
    is_one = len(heads) == 1
    columns = next(iter(heads)) if is_one else tuple(map(str, range(1, width + 1)))
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
                    for label, head, values in rows
                    for row in _rows(label, head, values, width, with_head=not is_one)
                ),
            )
            for title, rows in sections
        ),
    )


def tell_values(figure: Figure) -> None:
    """Write into each line and bar of a column what it shows, for who points at it.

    Args:
        figure: The figure; the names of its parts change from ``column:NAME`` to
            ``column:NAME`` + :data:`TELLS` + values.
    """
    parts = _legend(figure)
    for axis in figure.axes:
        places = _places(axis)
        for line in axis.get_lines():
            gid = str(line.get_gid() or "")
            if gid.startswith(GID) and TELLS not in gid:
                line.set_gid(f"{line.get_gid()}{TELLS}{_told(line, places)}")
        for patch in axis.patches:
            if str(patch.get_gid() or "").startswith(GID):
                part = parts.get(_colour(patch), "")
                value = _short(float(patch.get_width()))  # type: ignore[attr-defined]
                patch.set_gid(f"{patch.get_gid()}{TELLS}{f'{part} {value}'.strip()}")


def _told(line: Line2D, places: Mapping[float, str]) -> str:
    x, y = _points(line)
    if len(set(y)) == 1 and y[0] in places:  # along a row of names
        return f"{places[y[0]]} {' to '.join(_short(value) for value in x)}"
    best = max(range(len(y)), key=y.__getitem__)
    last = f"{_short(y[-1])} at {_short(x[-1])}"
    return last if best == len(y) - 1 else f"{last}, highest {_short(y[best])} at {_short(x[best])}"


def _points(line: Line2D) -> tuple[list[float], list[float]]:
    import numpy as np

    x, y = (np.asarray(values, dtype=float).tolist() for values in line.get_data())
    return x, y


def _places(axis: Axes) -> dict[float, str]:
    """Find the names on a vertical axis that has names; empty for one with numbers."""
    from matplotlib.ticker import FixedFormatter, FuncFormatter

    tell = axis.yaxis.get_major_formatter()
    if not isinstance(tell, (FixedFormatter, FuncFormatter)):
        return {}
    return {float(at): tell(at, place) for place, at in enumerate(axis.get_yticks())}


def _colour(patch: Patch) -> str:
    from matplotlib.colors import to_hex

    return to_hex(patch.get_facecolor())


def _legend(figure: Figure) -> dict[str, str]:
    """Find what the colours of bars mean."""
    from matplotlib.patches import Patch

    return {
        _colour(handle): text.get_text()
        for legend in figure.legends
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True)
        if isinstance(handle, Patch)
    }


Named = tuple[str, tuple[str, ...], list[str]]


def _rows(
    label: str, head: Sequence[str], values: Sequence[str], width: int, *, with_head: bool
) -> Iterator[Row]:
    if with_head:
        yield _row(f"{label}, at", head, width)
    yield _row(label, values, width)


def _row(label: str, texts: Sequence[str], width: int) -> Row:
    padded = [*texts, *[BLANK] * (width - len(texts))]
    return Row(label, tuple(map(Cell, padded)))


def _lines(axis: Axes) -> Iterator[Named]:
    places = _places(axis)
    seen = set()
    for line in axis.get_lines():
        gid = str(line.get_gid() or "")
        if not gid.startswith(GID) or TELLS in gid:
            continue
        x, y = _points(line)
        if places:
            if len(x) == 2:
                yield places[y[0]], ("from", "to"), [_short(value) for value in x]
        elif gid not in seen:
            seen.add(gid)
            step = -(-len(x) // MOST_POINTS)
            kept = sorted({*range(0, len(x), step), len(x) - 1})
            head = tuple(_short(x[place]) for place in kept)
            yield gid.removeprefix(GID), head, [_short(y[place]) for place in kept]


def _bars(axis: Axes, figure: Figure) -> Iterator[Named]:
    parts = _legend(figure)
    found: dict[str, dict[str, str]] = {}
    for patch in axis.patches:
        gid = str(patch.get_gid() or "")
        if gid.startswith(GID):
            part = parts.get(_colour(patch), "value")
            value = patch.get_width()  # type: ignore[attr-defined]
            found.setdefault(gid.removeprefix(GID), {})[part] = _short(float(value))
    for label, values in found.items():
        yield label, tuple(values), list(values.values())


def _matrix(axis: Axes) -> Iterator[Named]:
    import numpy as np

    label = str(axis.get_gid() or "").removeprefix(GID)
    if not axis.images or not label:
        return
    rows = [text.get_text() for text in axis.get_yticklabels()]
    columns = tuple(text.get_text() for text in axis.get_xticklabels())
    for name, values in zip(rows, np.asarray(axis.images[0].get_array()), strict=True):
        yield f"{label}, step on {name}", columns, [_short(float(value)) for value in values]


def _short(value: float) -> str:
    return BLANK if math.isnan(value) else f"{value:.4g}"
