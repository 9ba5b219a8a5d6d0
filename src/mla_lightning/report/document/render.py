"""Renderings of a report: Markdown, CSV and terminal, and the files of them all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from mla_lightning.report.document.latex import to_latex
from mla_lightning.report.document.seeds import state_seeds_once
from mla_lightning.report.document.table import (
    BEST,
    BLANK,
    SECOND,
    Cell,
    Report,
    Row,
    Section,
    Table,
    column_groups,
    printable,
)
from mla_lightning.run_folder.csv_cells import csv_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

#: Spaces between two columns in a terminal.
GAP = 2


def escape_markdown(text: str) -> str:
    r"""Escape a text for Markdown, HTML included.

    Args:
        text: Any text.

    Returns:
        One line. Underscores within words stay, where Markdown ignores them.

    Example:
        >>> print(escape_markdown("late_fusion *a|b*"))
        late_fusion \*a\|b\*
    """
    line = " ".join(printable(text).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    line = re.sub(r"([\\`*|\[\]~$])", r"\\\1", line)
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", line)


def to_markdown(report: Report, figures: Sequence[str] = ()) -> str:
    """Render a report as Markdown.

    Args:
        report: The report.
        figures: Names of image files in the same folder.

    Returns:
        The document.

    Example:
        >>> rows = (Row("multi", (Cell("60.0", BEST),)),)
        >>> table = Table("", "Accuracy (%)", "", ("MLA",), (Section("openmoji", rows),))
        >>> print(to_markdown(Report("mine", "My report", (table,))))
        # My report
        <BLANKLINE>
        ## Accuracy (%)
        <BLANKLINE>
        |  | MLA |
        | :-- | --: |
        | **openmoji** |  |
        | multi | **60.0** |
        <BLANKLINE>
    """
    lines = [f"# {escape_markdown(report.title)}", ""]
    for warning in report.warnings:
        lines += [f"**{escape_markdown(warning)}**", ""]
    lines += _bullets(report.finding)
    for place, table in enumerate(map(state_seeds_once, report.tables)):
        if not table.written_sections:
            continue
        lines += [f"## {escape_markdown(table.title)}", "", *_markdown_table(table), ""]
        lines += _bullets(table.notes)
        if place == 0:
            for name in figures:
                lines += [f"![{escape_markdown(name)}]({name})", ""]
    for name, text in report.listings.items():
        lines += [f"## {escape_markdown(name)}", "", "```yaml", text.rstrip("\n"), "```", ""]
    if report.notes:
        lines += ["## Where the numbers come from", "", *_bullets(report.notes)]
    return "\n".join(lines).rstrip("\n") + "\n"


def to_csv(table: Table) -> str:
    """Render a table as CSV, with the cells as printed.

    Args:
        table: The table.

    Returns:
        One line per row, with the section's title in the first column.

    Example:
        >>> rows = (Row("multi", (Cell("60.0"),)),)
        >>> print(to_csv(Table("", "Accuracy", "", ("MLA",), (Section("openmoji", rows),))))
        section,,MLA
        openmoji,multi,60.0
        <BLANKLINE>
    """
    rows = [
        [section.title, row.label, *(cell.text for cell in row.cells)]
        for section in table.written_sections
        for row in section.rows
    ]
    return csv_text(["section", table.corner, *table.columns], rows)


def to_files(report: Report, stem: str) -> dict[str, str]:
    """Render a report's tables as Markdown, LaTeX and CSV files.

    Args:
        report: The report.
        stem: Beginning of the file names.

    Returns:
        File name -> content; empty if the report has no table to write.
    """
    written = [table for table in report.tables if table.written_sections]
    if not written:
        return {}
    files = {
        f"{stem}.md": to_markdown(report, [f"{name}.svg" for name in report.figures]),
        f"{stem}.tex": to_latex(report),
    }
    for table in written:
        name = f"{stem}-{table.slug}" if table.slug else stem
        files[f"{name}.csv"] = to_csv(table)
    return files


def to_terminal(report: Report, console: Console) -> None:
    """Print a report.

    Args:
        report: The report.
        console: The terminal; a table wider than it is split into several with the same rows.
    """
    from rich.text import Text

    def print_line(text: str, style: str = "") -> None:
        console.print(Text(printable(text), style=style))

    print_line(report.title, "bold")
    for warning in report.warnings:
        print_line(warning, "bold red")
    for table in map(state_seeds_once, report.tables):
        if table.sections:
            console.print()
            print_line(table.title, "bold")
            lines = Text("\n").join(_terminal_table(table, console.width))
            console.print(lines, no_wrap=True, overflow="ignore", crop=False)
            for note in table.notes:
                print_line(note, "dim")
    for name, text in report.texts.items():
        console.print()
        print_line(name, "bold")
        console.print(Text(text.rstrip("\n")), no_wrap=True, overflow="ignore", crop=False)
    if report.notes:
        console.print()
    for note in report.notes:
        print_line(note, "dim")


def _bullets(notes: Iterable[str]) -> list[str]:
    lines = [f"- {escape_markdown(note)}" for note in notes]
    return [*lines, ""] if lines else []


def _markdown_table(table: Table) -> Iterator[str]:
    def line(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cells)} |"

    yield line([escape_markdown(table.corner), *map(escape_markdown, table.columns)])
    yield line([":--", *["--:"] * len(table.columns)])
    for section in table.written_sections:
        if section.title:
            title = (
                f"**{escape_markdown(section.title)}** {escape_markdown(section.remark)}".rstrip()
            )
            yield line([title, *[""] * len(table.columns)])
        for row in section.rows:
            yield line([escape_markdown(row.label), *map(_markdown_cell, row.cells)])


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    return {BEST: f"**{text}**", SECOND: f"<u>{text}</u>"}.get(cell.rank, text)


def _terminal_table(table: Table, width: int) -> Iterator[Text]:
    """Lay out all sections; tables of rich would take a second for a thousand rows."""
    from rich.text import Text

    for place, section in enumerate(table.sections):
        if place:
            yield Text()
        if section.title:
            remark = f"  {section.remark}" if section.remark else ""
            yield Text.assemble(
                (printable(section.title), "bold cyan"), (printable(remark), "cyan")
            )
        yield from _terminal_section(table, section, width)


def _terminal_section(table: Table, section: Section, width: int) -> Iterator[Text]:
    from rich.cells import cell_len
    from rich.text import Text

    used = [
        place
        for place in range(len(table.columns))
        if any(row.cells[place].text not in ("", BLANK) for row in section.rows)
    ]
    widths = {
        place: max(
            cell_len(printable(text))
            for text in (table.columns[place], *(row.cells[place].text for row in section.rows))
        )
        for place in used
    }
    labels = max(
        cell_len(printable(text)) for text in (table.corner, *(r.label for r in section.rows))
    )
    for group in column_groups(used, widths, width - 2 - labels, GAP):
        header = Text(f"  {_pad(table.corner, labels, left=True)}", style="dim")
        for place in group:
            header.append(" " * GAP + _pad(table.columns[place], widths[place]), style="bold")
        yield header
        for row in section.rows:
            yield _terminal_row(row, group, widths, labels)


def _terminal_row(row: Row, group: Sequence[int], widths: dict[int, int], labels: int) -> Text:
    from rich.text import Text

    line = Text(f"  {_pad(row.label, labels, left=True)}", style="dim" if row.is_quiet else "")
    styles = {BEST: "bold", SECOND: "underline"}
    for place in group:
        cell = row.cells[place]
        padded = _pad(cell.text, widths[place])
        blank = len(padded) - len(padded.lstrip())
        line.append(" " * (GAP + blank))
        line.append(padded[blank:], style=styles.get(cell.rank, "dim" if cell.is_quiet else ""))
    return line


def _pad(text: str, width: int, *, left: bool = False) -> str:
    from rich.cells import cell_len

    text = printable(text)
    space = " " * (width - cell_len(text))
    return text + space if left else space + text
