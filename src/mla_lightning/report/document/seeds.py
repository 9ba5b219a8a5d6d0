"""The number of seeds of a table: stated once where it is the same in all cells."""

from __future__ import annotations

import re
from dataclasses import replace

from mla_lightning.report.document.table import Cell, Row, Section, Table

#: A mean with its spread and number of seeds.
_WITH_SEEDS = re.compile(r"(.* ± \S+) \((\d+)\)")
_ANY_SEEDS = re.compile(r".* \(\d+( of \d+)?\)")
#: What a legend says about the numbers in the cells.
IN_CELLS = " (number of seeds)"


def state_seeds_once(table: Table) -> Table:
    """Return a table whose title states the number of seeds, if it is the same in all cells.

    Args:
        table: A table with cells such as ``61.0 ± 1.4 (3)``.

    Returns:
        The table without ``(3)`` in cells and legend; the same table where the numbers differ or
        seeds are missing.

    Example:
        >>> rows = (Row("multi", (Cell("61.0 ± 1.4 (3)"), Cell("60.0 ± 0.9 (3)"))),)
        >>> table = Table("", "Accuracy", "", ("MLA", "Concat"), (Section("", rows),))
        >>> state_seeds_once(table).title, state_seeds_once(table).sections[0].rows[0].cells[0].text
        ('Accuracy, over 3 seeds', '61.0 ± 1.4')
    """
    num = _common_seeds(table)
    if not num:
        return table

    def without(cell: Cell) -> Cell:
        return replace(cell, text=cell.text.removesuffix(f" ({num})"))

    def stripped(section: Section) -> Section:
        rows = (replace(row, cells=tuple(map(without, row.cells))) for row in section.rows)
        return replace(section, rows=tuple(rows))

    return replace(
        table,
        title=f"{table.title}, over {num} seeds",
        sections=tuple(map(stripped, table.sections)),
        notes=tuple(note.replace(IN_CELLS, "") for note in table.notes),
    )


def _common_seeds(table: Table) -> str:
    """Return the number of seeds of all cells that state one; empty if they differ."""
    rows: list[Row] = [row for section in table.written_sections for row in section.rows]
    stated = [cell.text for row in rows for cell in row.cells if _ANY_SEEDS.fullmatch(cell.text)]
    found = [_WITH_SEEDS.fullmatch(text) for text in stated]
    numbers = {match[2] if match else "" for match in found}
    return numbers.pop() if len(numbers) == 1 else ""
