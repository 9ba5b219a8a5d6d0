"""Reading of CSV files and JSON lines, with an error that names the line and the remedy."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mla_lightning.errors import DataError
from mla_lightning.paths import check_regular_file, command

#: First bytes of files that are often given the name of a CSV file, and what these files are.
_OTHER_FILES = (
    (b"PK\x03\x04", "an Excel workbook or another archive. Export it as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook. Export it as CSV (UTF-8)"),
    (b"\xff\xfe", "text in UTF-16"),
    (b"\xfe\xff", "text in UTF-16"),
    (b"<!DOCTYPE", "a page of HTML, such as of a download that failed. Get the file again"),
    (b"<html", "a page of HTML, such as of a download that failed. Get the file again"),
    (b"version https://git-lfs", "a Git LFS pointer. Run `git lfs pull`"),
)
#: Text of a list without items: a missing value, except as labels of which there can be several.
EMPTY_LIST = "[]"
_QUOTES = (
    "A cell with a comma, a quote or a line break must be in double quotes, and a quote in it be "
    "written twice"
)
#: What to do with a table that holds the character NUL.
NUL_REMEDY = "The file is damaged, or in UTF-16: save it as UTF-8"


def read_table(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Read a CSV file.

    The module csv reads it, strictly: pyarrow and pandas read ``"t"wo`` as ``two`` without a word.

    Args:
        path: The file; in a ``.tsv`` file tabs separate the columns.

    Returns:
        The rows, each column -> text without blanks around it, and ``line`` -> its line; and the
        columns.

    Raises:
        DataError: If it is no text in UTF-8, a row has another number of cells than the header, a
            quote is not closed, or other characters separate the columns.
    """
    check_regular_file(path)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    check_start(path)
    rows: list[dict[str, str]] = []
    columns: list[str] = []
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for cells in reader:
                first, line = line + 1, reader.line_num
                if not cells:
                    continue
                if not columns:
                    columns = _checked_header(path, cells, delimiter)
                    continue
                if len(cells) != len(columns):
                    is_ended = not any(cells[len(columns) :]) and len(cells) > len(columns)
                    remedy = "Remove the separators at its end" if is_ended else _QUOTES
                    raise DataError(
                        f"{path}, line {first}: not {len(columns)} cells, as the header, but "
                        f"{len(cells)}. {remedy}"
                    )
                texts = [cell.strip() for cell in cells]
                _check_cells(f"{path}, line {first}", texts, columns)
                rows.append({**dict(zip(columns, texts, strict=True)), "line": str(line)})
    except UnicodeDecodeError as error:
        raise _no_utf8(path, error) from error
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line + 1}: the row that begins here cannot be read: {error}. {_QUOTES}"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    for row in rows:
        row.pop("", None)  # columns without a name, which are empty
    return rows, [name for name in columns if name]


def read_json_lines(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Read a file with one JSON object per line.

    Args:
        path: The file.

    Returns:
        As :func:`read_table`; a key that a line does not have is an empty cell.

    Raises:
        DataError: If a line is no object, or a value is an object.
    """
    check_regular_file(path)
    check_start(path)
    values: list[dict[str, Any]] = []
    lines: list[int] = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                entry = json.loads(text)
                if not isinstance(entry, dict):
                    raise DataError(
                        f"{path}, line {line}: no JSON object, but {text.strip()[:40]!r}. Each "
                        'line must be one, such as {"label": "cat", "words": "a cat"}'
                    )
                values.append(entry)
                lines.append(line)
    except UnicodeDecodeError as error:
        raise _no_utf8(path, error) from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}, line {line}: no JSON object: {error}. Each line must be one; a file with one "
            "list of objects is not read"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    columns = list(dict.fromkeys(key for entry in values for key in entry))
    rows = []
    for entry, line in zip(values, lines, strict=True):
        place = f"{path}, line {line}"
        cells = {name: as_text(entry.get(name), f"{place}: {name!r}") for name in columns}
        rows.append({**cells, "line": str(line)})
    return rows, columns


def as_text(value: Any, where: str) -> str:
    """Return a value of a table as the text of a cell; a missing one is empty.

    Args:
        value: A text, number, date, list of numbers, or the path of a file.
        where: Row and column, for messages.

    Raises:
        DataError: If it is an object, bytes, or a list of files.

    Example:
        >>> [as_text(value, "") for value in (None, float("nan"), 3, 0.5, True, " a ", [1, 2.5])]
        ['', '', '3', '0.5', 'true', 'a', '[1, 2.5]']
        >>> as_text([], "")
        '[]'
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        if "\0" in value:
            raise DataError(f"{where} holds the character NUL. {NUL_REMEDY}")
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict) and "bytes" in value and not value["bytes"]:
        return str(value.get("path") or "")
    if isinstance(value, bytes | dict):
        held, remedy = "an object", "Give its values columns"
        if isinstance(value, bytes):
            held, remedy = "bytes", "Write the column as plain bytes, if they are files"
        raise DataError(f"{where} holds {held}, not a text, a number or a list. {remedy}")
    if isinstance(value, list):
        try:
            return json.dumps(value)
        except TypeError as error:  # of the files of a Sequence(Image), or of dates
            raise DataError(
                f"{where} holds a list of other than numbers and texts. Give each file or value of "
                "the list a column"
            ) from error
    return str(value)


def check_start(path: Path) -> None:
    """Check by its first bytes that a file is none of another kind.

    Raises:
        DataError: If it is an Excel workbook, HTML, UTF-16, or a pointer of Git LFS.
    """
    with path.open("rb") as raw:
        start = raw.read(64)
    for prefix, kind in _OTHER_FILES:
        if start.lower().startswith(prefix.lower()):
            remedy = f". {_to_utf8(path, 'UTF-16')}" if "UTF-16" in kind else ""
            raise DataError(f"{path} cannot be read: it is {kind}{remedy}")


def _checked_header(path: Path, columns: list[str], delimiter: str) -> list[str]:
    where = f"{path}, line 1"
    if len(columns) == 1 and columns[0].startswith("#"):
        raise DataError(f"{where} is a comment. The first line must name the columns; remove it")
    if len(columns) == 1 and columns[0].startswith("sep="):
        raise DataError(f"{where}, {columns[0]!r}, is for Excel alone. Remove it")
    names = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
    for other, name in names.items():
        if len(columns) == 1 and other in columns[0] and other != delimiter:
            remedy = {",": "Name the file .csv", "\t": "Name the file .tsv, or use commas"}
            raise DataError(
                f"{where}: {name} separate the columns, not {names[delimiter]}. "
                f"{remedy.get(other) or _to_commas(path, other)}"
            )
    for column in columns:
        if column != column.strip():
            raise DataError(
                f"{where}: the column {column!r} has blanks around its name. Remove them"
            )
    return columns


def _check_cells(where: str, cells: Sequence[str], columns: Sequence[str]) -> None:
    """Check that columns without a name are empty, and that no cell holds a NUL character."""
    for number, (cell, name) in enumerate(zip(cells, columns, strict=True), start=1):
        if "\0" in cell:
            raise DataError(f"{where}: a cell holds the character NUL. {NUL_REMEDY}")
        if name or not cell:
            continue
        if number > 1:
            raise DataError(
                f"{where}: column {number} has no name in the header, and holds {cell[:40]!r}. "
                "Name it, or remove it"
            )
        raise DataError(
            f"{where}: '' cannot be the name of a modality: the first column has no name, as the "
            "index of a pandas table. Write it with to_csv(..., index=False)"
        )


def _no_utf8(path: Path, error: UnicodeDecodeError) -> DataError:
    byte = error.object[error.start : error.start + 1]
    return DataError(
        f"{path}, line {_line_of_bad_byte(path)}: {byte!r} is no UTF-8. {_to_utf8(path, 'cp1252')}"
    )


def _to_commas(path: Path, separator: str) -> str:
    """Return the command that writes a table with commas."""
    new = path.with_name(f"{path.stem}-commas{path.suffix}")
    script = (
        'import csv, sys; csv.writer(open(sys.argv[2], "w", newline="", encoding="utf-8"))'
        '.writerows(csv.reader(open(sys.argv[1], newline="", encoding="utf-8-sig"), '
        f'delimiter="{separator}"))'
    )
    return f"Save it with commas, such as with {command('python', '-c', script, path, new)}"


def _line_of_bad_byte(path: Path) -> int:
    """Return the line of the first byte that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return number
    return 1


def _to_utf8(path: Path, encoding: str) -> str:
    words = command("iconv", "-f", encoding, "-t", "UTF-8", path)
    new = command(path.with_name(f"{path.stem}-utf8{path.suffix}"))
    return f"Save it as UTF-8, such as with {words} > {new}"
