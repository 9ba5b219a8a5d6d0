"""Lines of columns: the same style in all figures, five named ones at most in a panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mla_lightning.report.figures.style import (
    CONTEXT,
    FONT_SIZE,
    FOREMOST,
    FOREMOST_COLOUR,
    GID,
    OTHERS,
    PLAINEST,
    fitted,
)
from mla_lightning.report.read.variant import REFERENCE, method_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Largest number of lines in a panel that a reader can tell apart; others are grey context.
MAX_LINES = 5
#: Methods that figures name first where there is no room for all.
QUESTION = (FOREMOST, REFERENCE, PLAINEST, "late_fusion")
#: Line styles of ablations and other settings of one method.
LINES = ("-", ":", "-.", (0, (1, 3)))
#: Line styles of grey lines; dashed is reserved for the reference.
OTHER_LINES = ("-", ":", "-.")


def in_question(labels: Sequence[str], most: int = MAX_LINES) -> list[str]:
    """Return the columns that a figure shows or names where there is no room for all.

    Args:
        labels: Labels of the columns, in their order.
        most: Largest number of them.

    Returns:
        The method in question, the modality trained alone, Concat and Late Fusion, as far as there
        are any; then ablations and settings of the method in question, and the others in order.

    Example:
        >>> in_question(["Sum", "Concat", "QMF", "MLA", "Unimodal"], most=4)
        ['MLA', 'Unimodal', 'Concat', 'Sum']
    """
    first = [found[0] for method in QUESTION if (found := _of_method(method, labels))]
    return list(dict.fromkeys([*first, *_of_method(FOREMOST, labels), *labels]))[:most]


def left_out(labels: Sequence[str], shown: Sequence[str]) -> str:
    """Return the sentence that names the columns which a figure has no room for.

    Args:
        labels: Labels of all columns that could be shown.
        shown: Labels of those that are.

    Example:
        >>> left_out(["Sum", "MLA", "QMF"], ["MLA"])
        'Left out for lack of room: Sum, QMF.'
        >>> left_out(["MLA"], ["MLA"])
        ''
    """
    others = [label for label in labels if label not in shown]
    return f"Left out for lack of room: {', '.join(others)}." if others else ""


def line_styles(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Assign to each column the same line in all figures: the method in question stands out.

    MLA is thick and coloured, with its ablations and other settings thinner in the same colour.
    The references are black: trained alone dashed, Concat solid. Others are grey. Of more than
    :data:`MAX_LINES` columns, those that :func:`in_question` does not name are thin pale lines.

    Args:
        labels: Labels of the columns.

    Returns:
        Label -> keyword arguments of ``plot``.

    Example:
        >>> styles = line_styles(["QMF", "MLA", "Unimodal"])
        >>> styles["MLA"]["linewidth"] > styles["QMF"]["linewidth"]
        True
        >>> styles["Unimodal"]["color"], styles["Unimodal"]["linestyle"]
        ('black', '--')
    """
    named = in_question(labels)
    plain = method_label(REFERENCE)
    reference = [label for label in _of_method(REFERENCE, named) if label != plain]
    styles = {label: _line(CONTEXT, "-", 0.9, 1) for label in labels if label not in named}
    for index, label in enumerate(_of_method(FOREMOST, named)):
        width = 2.2 if index == 0 else 1.3
        styles[label] = _line(FOREMOST_COLOUR, LINES[index % len(LINES)], width, 5)
    for index, label in enumerate([plain, *reference]):
        styles[label] = _line("black", ("--", ":", "-.")[index % 3], 1.2, 4)
    for index, label in enumerate(_of_method(PLAINEST, named)):
        styles[label] = _line("black", LINES[index % len(LINES)], 1.0, 4)
    for index, label in enumerate(label for label in named if label not in styles):
        turn, line = divmod(index, len(OTHER_LINES))
        styles[label] = _line(OTHERS[turn % len(OTHERS)], OTHER_LINES[line], 1.0, 3)
    return styles


def line_legend(figure: Figure, labels: Sequence[str]) -> None:
    """Add a legend below a figure: an entry per named line, and one for all grey ones.

    Args:
        figure: The figure, whose lines have the labels of their columns.
        labels: Labels of all columns that it draws.

    Example:
        >>> from mla_lightning.report.figures.style import TWO_COLUMNS, new_figure
        >>> figure = new_figure(TWO_COLUMNS, 2.0)
        >>> axis = figure.subplots()
        >>> styles = line_styles("abcdefg")
        >>> lines = [axis.plot([0, 1], label=label, **styles[label]) for label in "abcdefg"]
        >>> line_legend(figure, "abcdefg")
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['a', 'b', 'c', 'd', 'e']
        >>> figure.legends[0].get_title().get_text()
        'grey: f, g'
    """
    handles = {str(line.get_label()): line for axis in figure.axes for line in axis.get_lines()}
    named = [label for label in in_question(labels) if label in handles]
    others = ", ".join(label for label in labels if label in handles and label not in named)
    width = figure.get_figwidth()
    figure.legend(
        [handles[label] for label in named],
        named,
        loc="outside lower left",
        ncols=_fitting_columns(named, width),
        title=fitted(f"grey: {others}", width) if others else None,
        alignment="left",
    )


def _fitting_columns(texts: Sequence[str], width: float) -> int:
    """Return the number of columns of a legend with these texts."""
    longest = max(map(len, texts), default=1)
    return max(1, min(len(texts), int(width * 72 / (0.6 * FONT_SIZE * longest + 34))))


def draw_band(
    axis: Axes,
    label: str,
    x: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    line_style: Mapping[str, Any],
) -> None:
    """Draw the spread around the line of a column, in its colour.

    Args:
        axis: The panel.
        label: The column, with which the band is chosen and hidden.
        x: Horizontal positions.
        low: Lower end at each of them.
        high: Upper end.
        line_style: The line, of :func:`line_styles`.

    Example:
        >>> from mla_lightning.report.figures.style import ONE_COLUMN, new_figure
        >>> axis = new_figure(ONE_COLUMN, 2.0).subplots()
        >>> draw_band(axis, "MLA", [1, 2], [0.4, 0.5], [0.6, 0.7], line_styles(["MLA"])["MLA"])
        >>> axis.collections[0].get_gid()
        'column:MLA'
    """
    colour = line_style["color"]
    axis.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0, gid=GID + label)


def emphasis(label: str) -> dict[str, Any]:
    """Return how the name of a column is written: that of the method in question stands out.

    Args:
        label: The column.

    Returns:
        Properties of a text.

    Example:
        >>> emphasis("MLA")["fontweight"], emphasis("QMF")
        ('bold', {})
    """
    is_foremost = bool(_of_method(FOREMOST, [label]))
    return {"fontweight": "bold", "color": FOREMOST_COLOUR} if is_foremost else {}


def name_rows(axis: Axes, labels: Sequence[str]) -> None:
    """Name the rows of a panel by columns, from top to bottom.

    Args:
        axis: The panel, whose rows are at 0, 1, ...
        labels: The columns.

    Example:
        >>> from mla_lightning.report.figures.style import ONE_COLUMN, new_figure
        >>> axis = new_figure(ONE_COLUMN, 2.0).subplots()
        >>> name_rows(axis, ["Sum", "MLA"])
        >>> [text.get_fontweight() for text in axis.get_yticklabels()]
        ['normal', 'bold']
    """
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.4, -0.6)
    for tick, label in zip(axis.get_yticklabels(), labels, strict=True):
        tick.set(**emphasis(label))


def is_prominent(line_style: Mapping[str, Any]) -> bool:
    """Return whether a line is of the method in question or of a reference; these have bands.

    Args:
        line_style: The line, of :func:`line_styles`.

    Example:
        >>> styles = line_styles(["MLA", "QMF"])
        >>> is_prominent(styles["MLA"]), is_prominent(styles["QMF"])
        (True, False)
    """
    return bool(line_style["color"] not in (*OTHERS, CONTEXT))


def _of_method(method: str, labels: Sequence[str]) -> list[str]:
    """Return the columns of a method: alone first, then with ablations and other settings.

    A bracket is part of the name of another method, such as ``MLA (released code)``.
    """
    name = method_label(method)
    plain = [label for label in labels if label == name]
    others = [label for label in labels if label.startswith(f"{name} ")]
    return plain + [label for label in others if not label.startswith(f"{name} (")]


def _line(colour: str, line: Any, width: float, order: int) -> dict[str, Any]:
    return {"color": colour, "linestyle": line, "linewidth": width, "zorder": order}
