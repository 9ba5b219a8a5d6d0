"""LaTeX of a report's tables, legible at their final size: nothing is shrunk to fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from mla_lightning.report.document.seeds import state_seeds_once
from mla_lightning.report.document.table import (
    BEST,
    SECOND,
    Cell,
    Report,
    Section,
    Table,
    column_groups,
    printable,
)

TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "[": "{[}",  # after a line break, a bracket would be read as its argument
    "]": "{]}",
    "*": "{*}",  # likewise a star
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "–": "--",
    "…": r"\ldots{}",
}
#: Characters of 8 pt that fit into one column of a paper (3.3 in) and into two (6.9 in).
ONE_COLUMN, TWO_COLUMNS = 53, 114
#: Lines of 8 pt that fit onto a page beside caption and notes.
MAX_LINES = 48
#: Characters beyond which the cells of a column are broken into lines; 2.3 in hold so many.
LONG_CELL = 40
#: Spaces between two columns, in characters.
GAP = 2
_PREAMBLE = (
    r"% \usepackage{array, booktabs, textcomp}  \usepackage[T1]{fontenc}",
    r"\newcolumntype{L}{>{\raggedright\arraybackslash}p{2.3in}}",
)


def escape_latex(text: str) -> str:
    r"""Escape a text for LaTeX.

    Args:
        text: Any text.

    Returns:
        One line.

    Example:
        >>> print(escape_latex("50 % of late_fusion"))
        50 \% of late\_fusion
    """
    return "".join(TEX.get(char, char) for char in " ".join(printable(text).split()))


def to_latex(report: Report) -> str:
    r"""Render a report's tables as LaTeX for the packages array and booktabs.

    Letters have 8 pt in a document of 10 pt. A table that fits into one column of a paper is a
    ``table``, others are a ``table*``; those wider than a page are divided into parts with the
    same rows, and those longer than a page into several tables. Where all cells are over equally
    many seeds, the caption says so.

    Args:
        report: The report.

    Returns:
        The tables, to be included with ``\input``; their labels are ``tab:KIND-SLUG``.

    Example:
        >>> from mla_lightning.report.document.table import Row
        >>> rows = (Row("multi", (Cell("60.0 ± 1.0 (3)", BEST),)),)
        >>> table = Table("", "Accuracy", "", ("MLA",), (Section("", rows),))
        >>> print(to_latex(Report("mine", "My report", (table,))).partition("\n\n")[2])
        \begin{table}[t]
        \centering\footnotesize\setlength{\tabcolsep}{4pt}
        \caption{Accuracy, over 3 seeds.}
        \label{tab:mine}
        \begin{tabular}{lr}
        \toprule
         & MLA \\
        \midrule
        multi & \textbf{60.0 $\pm$ 1.0} \\
        \bottomrule
        \end{tabular}
        \end{table}
        <BLANKLINE>
    """
    lines = list(_PREAMBLE)
    for table in report.tables:
        if table.written_sections:
            lines += _latex_table(report, table)
    return "\n".join(lines) + "\n"


def _latex_table(report: Report, table: Table) -> Iterator[str]:
    table = state_seeds_once(table)
    widths = _widths(table)
    room = TWO_COLUMNS - widths[-1]
    groups = list(column_groups(range(len(table.columns)), widths, room, GAP))
    is_narrow = sum(width + GAP for width in widths.values()) <= ONE_COLUMN
    environment = "table" if is_narrow else "table*"
    pages = list(_pages(table.written_sections, MAX_LINES // len(groups)))
    for number, sections in enumerate(pages, start=1):
        page = replace(table, sections=sections, notes=table.notes if number == len(pages) else ())
        title, label = table.title, _label(report, table)
        if number > 1:
            title, label = f"{title}, part {number}", f"{label}-{number}"
        yield from ["", *_float(report, page, environment, title, label, groups, widths)]


def _pages(sections: Iterable[Section], num_lines: int) -> Iterator[tuple[Section, ...]]:
    """Divide sections into pages of at most so many lines; a section is divided if it must be."""
    room = max(num_lines - 2, 3)  # the header
    page: list[Section] = []
    left = room
    for section in sections:
        rows = section.rows
        while rows:
            if page and left < 1 + min(len(rows), 3):
                yield tuple(page)
                page, left = [], room
            page.append(replace(section, rows=rows[: left - 1]))
            left -= 1 + len(page[-1].rows)
            rows = rows[len(page[-1].rows) :]
    yield tuple(page)


def _float(
    report: Report,
    table: Table,
    environment: str,
    title: str,
    label: str,
    groups: Sequence[Sequence[int]],
    widths: dict[int, int],
) -> Iterator[str]:
    warning = "".join(f" {text}" for text in report.warnings)
    yield rf"\begin{{{environment}}}[t]"
    yield r"\centering\footnotesize\setlength{\tabcolsep}{4pt}"
    yield rf"\caption{{{escape_latex(f'{title}.{warning}')}}}"
    yield rf"\label{{tab:{label}}}"
    for part, group in enumerate(groups):
        if part:
            yield r"\par\medskip"
        yield from _tabular(table, group, widths)
    for note in table.notes:
        yield rf"\par {escape_latex(note)}"
    yield rf"\end{{{environment}}}"


def _label(report: Report, table: Table) -> str:
    name = f"{report.kind}-{table.slug}" if table.slug else report.kind
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")


def _widths(table: Table) -> dict[int, int]:
    """Return the characters that each column takes; -1 is that of the labels of rows."""
    rows = [row for section in table.written_sections for row in section.rows]
    texts = {
        place: [table.columns[place], *(row.cells[place].text for row in rows)]
        for place in range(len(table.columns))
    }
    texts[-1] = [table.corner, *(row.label for row in rows)]
    return {place: min(LONG_CELL + 1, max(map(len, texts[place]))) for place in texts}


def _tabular(table: Table, group: Sequence[int], widths: dict[int, int]) -> Iterator[str]:
    kinds = ["L" if widths[-1] > LONG_CELL else "l"]
    kinds += ["L" if widths[place] > LONG_CELL else "r" for place in group]
    yield rf"\begin{{tabular}}{{{''.join(kinds)}}}"
    yield r"\toprule"
    columns = [table.columns[place] for place in group]
    yield _latex_line([escape_latex(table.corner), *map(escape_latex, columns)])
    for section in table.written_sections:
        yield r"\midrule"
        if section.title:
            title = (
                rf"\textbf{{{escape_latex(section.title)}}} {escape_latex(section.remark)}".rstrip()
            )
            yield rf"\multicolumn{{{len(kinds)}}}{{l}}{{{title}}} \\"
        for row in section.rows:
            cells = [_latex_cell(row.cells[place]) for place in group]
            yield _latex_line([escape_latex(row.label), *cells])
    yield r"\bottomrule"
    yield r"\end{tabular}"


def _latex_line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    return {BEST: rf"\textbf{{{text}}}", SECOND: rf"\underline{{{text}}}"}.get(cell.rank, text)
