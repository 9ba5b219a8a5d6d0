"""Contents of a report: tables, sections, rows and cells, independent of the output format."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mla_lightning.report.read.block import STATES, Summary
from mla_lightning.report.read.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Text of a cell without a value.
BLANK = "–"
#: Ranks of the best and the second-best value of a row.
BEST, SECOND = 1, 2


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: Its text, not escaped for any format.
        rank: 1 for the best of its row (bold), 2 for the second-best (underlined), else 0.
        is_quiet: Whether it is shown in grey: published numbers, states instead of numbers.
    """

    text: str
    rank: int = 0
    is_quiet: bool = False


@dataclass(frozen=True)
class Row:
    """A row: a label, and one cell per column of the table."""

    label: str
    cells: tuple[Cell, ...]
    is_quiet: bool = False


@dataclass(frozen=True)
class Section:
    """Rows under a common title, usually those of one data set.

    Attributes:
        title: The title.
        rows: The rows.
        remark: A sentence beside the title.
        is_terminal_only: Whether it is printed but not written to files, as for experiments that
            have not been run yet.
    """

    title: str
    rows: tuple[Row, ...]
    remark: str = ""
    is_terminal_only: bool = False


@dataclass(frozen=True)
class Table:
    """A table: sections with common columns.

    Attributes:
        slug: Short name for file names; empty for the report's main table.
        title: Title, with the unit.
        corner: Header of the column of row labels.
        columns: Headers of the other columns.
        sections: The sections.
        notes: Footnotes.

    Example:
        >>> row = Row("multi", (Cell("60.0", BEST), Cell("59.0", SECOND)))
        >>> section = Section("openmoji", (row,), is_terminal_only=True)
        >>> Table("", "Test accuracy (%)", "", ("MLA", "Concat"), (section,)).written_sections
        ()
    """

    slug: str
    title: str
    corner: str
    columns: tuple[str, ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()

    @property
    def word_columns(self) -> frozenset[int]:
        """The columns whose cells all begin with a letter: pages align them left.

        Example:
            >>> rows = (Row("a", (Cell("0.5"), Cell("finished"))), Row("b", (Cell("–"), Cell(""))))
            >>> Table("", "", "", ("acc", "state"), (Section("", rows),)).word_columns
            frozenset({1})
        """
        rows = [row for section in self.sections for row in section.rows]
        texts = {
            place: [text for row in rows if (text := row.cells[place].text)]
            for place in range(len(self.columns))
        }
        return frozenset(
            place for place, found in texts.items() if found and all(t[0].isalpha() for t in found)
        )

    @property
    def written_sections(self) -> tuple[Section, ...]:
        """The sections that are written to files."""
        return tuple(section for section in self.sections if not section.is_terminal_only)


@dataclass(frozen=True)
class Report:
    """Everything that one report prints and writes.

    Attributes:
        kind: Its name, with which the names of its files begin.
        title: Title.
        tables: Tables, the main one first.
        notes: Origin and limits of the numbers.
        warnings: Warnings, shown above everything else.
        figures: File name without extension -> function that draws the figure.
        reading: Caption of the figures, in a sentence.
        captions: File name of a figure without extension -> a caption of its own.
        texts: Name of a further file -> its content; also printed. Those that end with ``.md`` are
            the finding, a list, and come before the tables; others come after them.
        runs: The runs that are written to ``results.csv``; None for all. The others have result
            tables of their own.
        command: Command that makes the report again from its ``results.csv``; empty for
            ``mla report KIND``.
    """

    kind: str
    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    figures: dict[str, Callable[[], Figure]] = field(default_factory=dict)
    reading: str = "The tables hold the same numbers."
    captions: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    runs: tuple[Run, ...] | None = None
    command: str = ""

    def caption(self, figure: str) -> str:
        """Return the caption of a figure, by its file name without extension."""
        return self.captions.get(figure, self.reading)

    @property
    def finding(self) -> list[str]:
        """The points of the texts that are the finding."""
        texts = [text for name, text in self.texts.items() if name.endswith(".md")]
        return [line.removeprefix("- ") for text in texts for line in text.splitlines()]

    @property
    def listings(self) -> dict[str, str]:
        """The texts that are shown as they are."""
        return {name: text for name, text in self.texts.items() if not name.endswith(".md")}


#: Function that builds a report from runs.
ReportBuilder = Callable[[Sequence[Run]], Report]


def format_summary(summary: Summary, digits: int = 1, *, with_spread: bool = True) -> str:
    """Format the mean over seeds.

    Args:
        summary: The numbers over seeds.
        digits: Decimals.
        with_spread: Whether the standard deviation and the number of seeds are included; missing
            seeds are always reported.

    Returns:
        ``mean ± sd (n)``; ``mean (n)`` for one seed; ``mean ± sd (n of N)`` with missing seeds;
        the states of the runs if there is no number.

    Example:
        >>> format_summary(Summary({0: 60.0, 1: 62.0}, (0, 1)))
        '61.0 ± 1.4 (2)'
        >>> format_summary(Summary({0: 60.0}, (0, 1), {"failed": 1}))
        '60.0 (1 of 2)'
        >>> format_summary(Summary({}, (0, 1), {"failed": 2}))
        'failed'
    """
    if summary.num == 0:
        return format_states(summary)
    text = f"{summary.mean:.{digits}f}"
    if not summary.is_complete:
        num = f" ({summary.num} of {len(summary.expected)})"
    else:
        num = f" ({summary.num})" if with_spread else ""
    spread = f" ± {summary.sd:.{digits}f}" if with_spread and summary.sd is not None else ""
    return f"{text}{spread}{num}"


def format_states(summary: Summary) -> str:
    """Format the states of the runs that gave no number.

    Args:
        summary: The numbers over seeds, with at least one missing.

    Returns:
        ``failed``, or ``failed 2, running 1`` where the states differ.

    Example:
        >>> format_states(Summary({}, (0, 1, 2), {"running": 1, "failed": 2}))
        'failed 2, running 1'
    """
    states = sorted(summary.states, key=lambda name: STATES.index(name) if name in STATES else 99)
    if len(states) == 1:
        return states[0]
    return ", ".join(f"{name} {summary.states[name]}" for name in states) or BLANK


def summary_cell(
    summary: Summary, digits: int = 1, rank: int = 0, *, with_spread: bool = True
) -> Cell:
    """Return the cell of a mean over seeds.

    Args:
        summary: The numbers over seeds.
        digits: Decimals.
        rank: Rank in the row.
        with_spread: See :func:`format_summary`.

    Returns:
        The cell, grey if it has no number.

    Example:
        >>> summary_cell(Summary({0: 60.0}, (0,)), rank=BEST)
        Cell(text='60.0 (1)', rank=1, is_quiet=False)
    """
    text = format_summary(summary, digits, with_spread=with_spread)
    return Cell(text, rank, is_quiet=summary.num == 0)


def ranks(
    values: Sequence[float | None], digits: int = 1, *, lower_is_better: bool = False
) -> list[int]:
    """Rank the best and the second-best value of a row.

    Args:
        values: The values; None is not ranked.
        digits: Decimals as printed. Values that print alike share a rank.
        lower_is_better: Whether the smallest value is the best.

    Returns:
        1 for the best, 2 for the second-best, 0 for the others; all 0 for fewer than two values.

    Example:
        >>> ranks([60.04, 61.0, None, 60.0, 12.0])
        [2, 1, 0, 2, 0]
    """
    rounded = [None if value is None else round(value, digits) for value in values]
    distinct = sorted({v for v in rounded if v is not None}, reverse=not lower_is_better)
    if sum(value is not None for value in rounded) < 2:
        return [0] * len(rounded)
    places = {value: place for place, value in enumerate(distinct[:2], start=BEST)}
    return [0 if value is None else places.get(value, 0) for value in rounded]


def signed(value: float | None, digits: int = 1) -> str:
    """Format a difference with its sign.

    Args:
        value: The difference; None gives :data:`BLANK`.
        digits: Decimals.

    Returns:
        The text; a difference that rounds to zero has no sign.

    Example:
        >>> signed(2.3), signed(-0.44), signed(-0.04), signed(None)
        ('+2.3', '−0.4', '0.0', '–')
    """
    if value is None:
        return BLANK
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else '−'}{text}"


def p_text(p: float | None) -> str:
    """Format a p-value.

    Args:
        p: The p-value; None gives :data:`BLANK`.

    Returns:
        Three decimals; below 0.001 two digits with an exponent.

    Example:
        >>> p_text(0.0312), p_text(0.00012), p_text(None)
        ('0.031', '1.2e-04', '–')
    """
    if p is None:
        return BLANK
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def printable(text: str) -> str:
    r"""Replace control characters, which a terminal or LaTeX would act upon, by spaces.

    Args:
        text: Any text.

    Returns:
        A text of the same length.

    Example:
        >>> printable("a\tb")
        'a b'
    """
    return "".join(char if char.isprintable() else " " for char in text)


def column_groups(
    columns: Sequence[int], widths: Mapping[int, int], width: int, gap: int
) -> Iterator[list[int]]:
    """Split columns into groups that fit into a width.

    Args:
        columns: The columns.
        widths: Width of each column, in characters.
        width: Width of a line; a column that is wider has a group of its own.
        gap: Characters between two columns.

    Returns:
        The groups, in order.

    Example:
        >>> list(column_groups([0, 1, 2], {0: 5, 1: 5, 2: 5}, 15, 2))
        [[0, 1], [2]]
    """
    group: list[int] = []
    used_width = 0
    for place in columns:
        if group and used_width + gap + widths[place] > width:
            yield group
            group, used_width = [], 0
        group.append(place)
        used_width += gap + widths[place]
    yield group
