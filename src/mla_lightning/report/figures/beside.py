"""What readers of the page find beside a figure: what it leaves out, and its numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mla_lightning.report.document.table import Table


@dataclass
class Beside:
    """What belongs to a figure and is not drawn.

    Attributes:
        remark: Sentences that follow the caption, such as which methods are left out; may be empty.
        numbers: Table of its numbers; None to take them from what is drawn.
    """

    remark: str = ""
    numbers: Table | None = None


_OF_FIGURE: WeakKeyDictionary[Figure, Beside] = WeakKeyDictionary()


def beside(figure: Figure) -> Beside:
    """Return what belongs to a figure, to be read or set.

    Args:
        figure: The figure.

    Example:
        >>> from mla_lightning.report.figures.style import ONE_COLUMN, new_figure
        >>> figure = new_figure(ONE_COLUMN, 2.0)
        >>> beside(figure).remark = "Left out for lack of room: QMF."
        >>> beside(figure).remark
        'Left out for lack of room: QMF.'
    """
    return _OF_FIGURE.setdefault(figure, Beside())
