"""What a report consists of, before anyone decides how it is written down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mla_lightning.report.read.block import STATES, Summary
from mla_lightning.report.read.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLANK = "–"
BEST, SECOND = 1, 2


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What it says, not escaped for any format.
        rank: 1 for the best of its row (bold), 2 for the second (underlined), else 0.
        is_quiet: Whether it is set back: numbers of others, states instead of numbers.
    """

    text: str
    rank: int = 0
    is_quiet: bool = False


@dataclass(frozen=True)
class Row:
    """A label and its cells, one for each column of the table."""

    label: str
    cells: tuple[Cell, ...]
    is_quiet: bool = False


@dataclass(frozen=True)
class Section:
    """Rows under a common title, mostly a data set.

    Attributes:
        title: The title.
        rows: The rows.
        remark: A sentence beside the title.
        is_terminal_only: Whether it is shown but not written: what has not been run yet.
    """

    title: str
    rows: tuple[Row, ...]
    remark: str = ""
    is_terminal_only: bool = False


@dataclass(frozen=True)
class Table:
    """Sections with common columns.

    Attributes:
        slug: Short name, for file names; empty for the report's main table.
        title: What is shown, with unit.
        corner: Header of the labels.
        columns: Headers of the cells.
        sections: The sections.
        notes: What a reader needs to know to read it.
    """

    slug: str
    title: str
    corner: str
    columns: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()

    @property
    def written_sections(self) -> tuple[Section, ...]:
        """The sections that go to files."""
        return tuple(section for section in self.sections if not section.is_terminal_only)


@dataclass(frozen=True)
class Report:
    """Everything that one command shows and writes.

    Attributes:
        kind: Its name and the stem of its files.
        title: Its heading.
        tables: Its tables, the main one first.
        notes: Where the numbers come from and what they cannot say.
        warnings: What a reader must not miss, above everything else.
        figures: Stem of a file -> what draws the figure.
        reading: How to read the figures, in a sentence.
        texts: Name of a further file -> its content; also printed.
        runs: The runs that are written beside it, where others that it shows are kept elsewhere;
            None for all.
        command: Command that makes the report again from the results beside it; empty for
            ``mla report KIND``.
    """

    kind: str
    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    figures: dict[str, Callable[[], Figure]] = field(default_factory=dict)
    reading: str = "The tables hold the same numbers."
    texts: dict[str, str] = field(default_factory=dict)
    runs: tuple[Run, ...] | None = None
    command: str = ""

    def _repr_html_(self) -> str:
        """Show the report in a notebook."""
        from mla_lightning.report.document.html import to_fragment

        return to_fragment(self)


#: Function that makes a report from runs.
Maker = Callable[[Sequence[Run]], Report]


def number(summary: Summary, digits: int = 1, *, with_spread: bool = True) -> str:
    """Write a cell over seeds.

    Args:
        summary: The cell.
        digits: Decimals.
        with_spread: Whether spread and number of seeds are told; missing seeds always are.

    Returns:
        ``mean ± sd (n)``; ``mean (n)`` for one seed; ``(n of N)`` where seeds are missing; the
        state where there is no number at all.
    """
    if summary.num == 0:
        return state(summary)
    text = f"{summary.mean:.{digits}f}"
    if not summary.is_complete:
        num = f" ({summary.num} of {len(summary.expected)})"
    else:
        num = f" ({summary.num})" if with_spread else ""
    spread = f" ± {summary.sd:.{digits}f}" if with_spread and summary.sd is not None else ""
    return f"{text}{spread}{num}"


def state(summary: Summary) -> str:
    """Say why a cell has no number.

    Args:
        summary: A cell, at least in part without numbers.

    Returns:
        ``failed``, or ``failed 2, running 1`` where seeds differ.
    """
    known = sorted(summary.states, key=lambda name: STATES.index(name) if name in STATES else 99)
    if len(known) == 1:
        return known[0]
    return ", ".join(f"{name} {summary.states[name]}" for name in known) or BLANK


def cell(summary: Summary, digits: int = 1, rank: int = 0, *, with_spread: bool = True) -> Cell:
    """Make a cell over seeds.

    Args:
        summary: The cell's numbers.
        digits: Decimals.
        rank: Its rank in the row.
        with_spread: As :func:`number` takes it.

    Returns:
        The cell, set back where it holds no number.
    """
    text = number(summary, digits, with_spread=with_spread)
    return Cell(text, rank, is_quiet=summary.num == 0)


def ranks(
    values: Sequence[float | None], digits: int = 1, *, lower_is_better: bool = False
) -> list[int]:
    """Find the best and the second of a row.

    Args:
        values: Numbers; None takes no part.
        digits: Numbers that print alike are equal: all the best are bold.
        lower_is_better: Whether the smallest is the best.

    Returns:
        1 for the best, 2 for the second, 0 for the others; no ranks for fewer than two numbers.
    """
    rounded = [None if value is None else round(value, digits) for value in values]
    distinct = sorted({v for v in rounded if v is not None}, reverse=not lower_is_better)
    if sum(value is not None for value in rounded) < 2:
        return [0] * len(rounded)
    places = {value: place for place, value in enumerate(distinct[:2], start=BEST)}
    return [0 if value is None else places.get(value, 0) for value in rounded]


def signed(value: float | None, digits: int = 1) -> str:
    """Write a difference with its sign.

    Args:
        value: The difference.
        digits: Decimals.

    Returns:
        For example ``+2.3`` or ``−0.4``; never a negative zero.
    """
    if value is None:
        return BLANK
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else '−'}{text}"


def p_text(p: float | None) -> str:
    """Write a p-value.

    Args:
        p: The value.

    Returns:
        Three decimals, or two digits with an exponent below 0.001.
    """
    if p is None:
        return BLANK
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
