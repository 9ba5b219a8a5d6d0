"""Texts of a sheet of samples, shortened and divided into lines by the width of their characters.

Wide characters, such as Chinese ones, count twice.
"""

from __future__ import annotations

import textwrap

from rich.cells import cell_len, chop_cells

from mla_lightning.report.figures.figure_text import drawable, is_escaped, units_of


def without_start(text: str, width: int) -> str:
    """Return the end of a text that is too wide.

    Example:
        >>> without_start("recording 17", 5), without_start("17", 5), without_start("猫と犬", 5)
        ('…g 17', '17', '…と犬')
    """
    return text if cell_len(text) <= width else f"…{_start(text[::-1], width - 1)[::-1]}"


def without_middle(text: str, width: int) -> str:
    """Return a text that is too wide without its middle.

    Example:
        >>> without_middle("a long name (9 samples)", 11)
        'a lon…ples)'
    """
    if cell_len(text) <= width:
        return text
    half = (width - 1) // 2
    return f"{_start(text, half)}…{_start(text[::-1], half)[::-1]}"


def wrapped(text: str, width: int = 34, num_lines: int = 7) -> list[str]:
    """Return the lines of a text, the last one cut if there are more; no escape is divided.

    Args:
        text: The text; characters that no font has are escaped.
        width: Largest width of a line.
        num_lines: Largest number of lines.

    Example:
        >>> wrapped("a small dog barks", 11), wrapped("one two three", 5, 2)
        (['a small dog', 'barks'], ['one', 'two…'])
    """
    text = drawable(" ".join(text.split()))
    if is_escaped(text):
        lines = [""]
        for unit in units_of(text):
            is_full = lines[-1] and cell_len(lines[-1] + unit) > width
            lines = [*lines, unit] if is_full else [*lines[:-1], lines[-1] + unit]
    else:
        words = textwrap.wrap(text, width)
        lines = [part for line in words for part in chop_cells(line, width)]
    if len(lines) <= num_lines:
        return lines
    return [*lines[: num_lines - 1], f"{_start(lines[num_lines - 1], width - 1)}…"]


def _start(text: str, width: int) -> str:
    return chop_cells(text, width)[0]
