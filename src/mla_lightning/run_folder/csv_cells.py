"""Writer of all CSV files: no text in them is a formula of a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import Any

#: Texts that spreadsheets would run as a formula, also behind quotes that escape them already.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_DIGITS = r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
#: A number, or as tables show it: ``+0.3 ± 1.2 (10)``, ``+0.1 to +0.8``.
_NUMBER = re.compile(rf"[+-]?{_DIGITS}( ± {_DIGITS}| to [+−-]?{_DIGITS})?( \(\d+( of \d+)?\))?")


def escape_cell(value: Any) -> Any:
    """Return a value as a CSV holds it: a text that begins like a formula, behind a quote.

    Args:
        value: A text, a number, or None for an empty cell. Numbers stay numbers, as texts, too.

    Example:
        >>> escape_cell("=1+1"), escape_cell("MLA"), escape_cell("-0.5"), escape_cell(-0.5)
        ("'=1+1", 'MLA', '-0.5', -0.5)
        >>> escape_cell("'key=[a]'")  # no formula: quotes of a shell stay as they are
        "'key=[a]'"
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def unescape_cell(text: str) -> str:
    """Return the text that :func:`escape_cell` was given.

    Example:
        >>> [unescape_cell(escape_cell(text)) for text in ("=1+1", "'=1+1", "'a'", "-1")]
        ['=1+1', "'=1+1", "'a'", '-1']
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def csv_text(columns: Iterable[str], rows: Iterable[Mapping[str, Any] | Iterable[Any]]) -> str:
    """Return a table as CSV.

    Args:
        columns: The first line.
        rows: The cells of each further line, in the order of the columns, or by column; other
            keys are left out, absent ones are empty.

    Example:
        >>> print(csv_text(["id", "p"], [["@home", -0.5], {"p": 1, "id": "a"}]), end="")
        id,p
        '@home,-0.5
        a,1
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(columns)
    writer.writerow(map(escape_cell, names))
    for row in rows:
        cells = [row.get(name) for name in names] if isinstance(row, Mapping) else row
        writer.writerow(map(escape_cell, cells))
    return text.getvalue()
