"""Names beside the points of a scatter plot, placed so that they do not cover each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from mla_lightning.report.figures.style import GID

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

#: Two points in the data's unit.
Line = tuple[tuple[float, float], tuple[float, float]]
#: Distances of a name from its point, in points; the nearest that is free is taken.
DISTANCES = (5, 11, 18, 26, 36)
#: Directions from a point, as horizontal and vertical alignment of the name: right first.
DIRECTIONS = ((1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1), (0, 1), (0, -1))
HORIZONTAL = {1: "left", 0: "center", -1: "right"}
VERTICAL = {1: "bottom", 0: "center", -1: "top"}


class Named(NamedTuple):
    """A point and its name.

    Attributes:
        x: Horizontal position in the data's unit.
        y: Vertical position.
        label: The name.
        colour: Colour of the name.
    """

    x: float
    y: float
    label: str
    colour: str


def label_points(axis: Axes, points: Sequence[Named], lines: Sequence[Line] = ()) -> None:
    """Write names beside points, the first ones nearest, with a thin line to a distant one.

    Args:
        axis: The panel, whose figure is complete otherwise: the layout must not change any more.
        points: The points, the most important first.
        lines: Ends of lines that names should not cross, if there is room.

    Example:
        >>> from mla_lightning.report.figures.style import new_figure
        >>> axis = new_figure(3.3, 2.0).subplots()
        >>> _ = axis.plot([1, 1.001], [2, 2.001], "o")
        >>> label_points(axis, [Named(1, 2, "MLA", "black"), Named(1.001, 2.001, "QMF", "grey")])
        >>> first, second = (text.get_window_extent() for text in axis.texts)
        >>> bool(first.overlaps(second))
        False
    """
    from matplotlib.transforms import Bbox

    figure = axis.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()
    frame = axis.get_window_extent()
    places = [axis.transData.transform((point.x, point.y)) for point in points]
    crossed = [Bbox(axis.transData.transform(line)) for line in lines]
    boxes = [Bbox([place - 4, place + 4]) for place in places]
    for point in points:
        best: tuple[int, Annotation | None] = (0, None)
        for direction, distance in _candidates():
            text = _write(axis, point, direction, distance)
            box = _box(text)
            is_inside = frame.x0 <= box.x0 and box.x1 <= frame.x1
            is_inside &= frame.y0 <= box.y0 and box.y1 <= frame.y1
            faults = sum(box.overlaps(other) for other in crossed)
            faults += 100 * sum(box.overlaps(other) for other in boxes) + 1000 * (not is_inside)
            if best[1] is None or faults < best[0]:
                text, best = best[1] or text, (faults, text)
            if text is not best[1]:
                text.remove()
            if best[0] == 0:
                break
        if best[1] is not None:
            boxes.append(_box(best[1]))


def _write(axis: Axes, point: Named, direction: tuple[int, int], distance: int) -> Annotation:
    line = {"arrowstyle": "-", "color": "#B0B0B0", "linewidth": 0.5}
    text = axis.annotate(
        point.label,
        (point.x, point.y),
        (direction[0] * distance, direction[1] * distance),
        textcoords="offset points",
        ha=HORIZONTAL[direction[0]],
        va=VERTICAL[direction[1]],
        color=point.colour,
        gid=GID + point.label,
        arrowprops=line if distance > DISTANCES[1] else None,
    )
    text.set_in_layout(False)
    return text


def _box(text: Annotation) -> Bbox:
    """Return the box of a name, without the line to its point."""
    from matplotlib.text import Text

    text.get_window_extent()  # moves the name to its place
    return Text.get_window_extent(text)


def _candidates() -> Iterator[tuple[tuple[int, int], int]]:
    for distance in DISTANCES:
        for direction in DIRECTIONS:
            yield direction, distance
