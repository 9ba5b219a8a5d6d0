"""Reading of the CSV file of a user, with an error that names the line and the remedy."""

from __future__ import annotations

import csv
from pathlib import Path

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
_QUOTES = (
    "A cell with a comma, a quote or a line break must be in double quotes, and a quote in it be "
    "written twice"
)


def read_table(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    """Read a CSV file.

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
    with path.open("rb") as raw:
        start = raw.read(64)
    for prefix, kind in _OTHER_FILES:
        if start.lower().startswith(prefix.lower()):
            remedy = f". {_to_utf8(path, 'UTF-16')}" if "UTF-16" in kind else ""
            raise DataError(f"{path} cannot be read: it is {kind}{remedy}")
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
                    raise DataError(
                        f"{path}, line {first}: not {len(columns)} cells, as the header, but "
                        f"{len(cells)}. {_QUOTES}"
                    )
                texts = [cell.strip() for cell in cells]
                rows.append({**dict(zip(columns, texts, strict=True)), "line": str(line)})
    except UnicodeDecodeError as error:
        number = _line_of_bad_byte(path)
        raise DataError(
            f"{path}, line {number}: {error.object[error.start : error.start + 1]!r} is no UTF-8. "
            f"{_to_utf8(path, 'cp1252')}"
        ) from error
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line + 1}: the row that begins here cannot be read: {error}. {_QUOTES}"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    return rows, columns


def _checked_header(path: Path, columns: list[str], delimiter: str) -> list[str]:
    where = f"{path}, line 1"
    for other, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(columns) == 1 and other in columns[0] and other != delimiter:
            hint = " Name the file .tsv, or" if other == "\t" else " Save it so"
            raise DataError(f"{where}: {name} separate the columns, not commas.{hint} use commas")
    for column in columns:
        if column != column.strip():
            raise DataError(
                f"{where}: the column {column!r} has blanks around its name. Remove them"
            )
    if columns[0] == "":
        raise DataError(
            f"{where}: '' cannot be the name of a modality: the first column has no name, as the "
            "index of a pandas table. Write it with to_csv(..., index=False)"
        )
    return columns


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


def unit_of(path: Path) -> str:
    """Return what the places in a table are called: lines of a text file, otherwise rows.

    Example:
        >>> unit_of(Path("a.csv")), unit_of(Path("a.parquet"))
        ('line', 'row')
    """
    return "line" if path.suffix.lower() in (".csv", ".tsv", ".jsonl", ".ndjson") else "row"


def is_table(path: Path) -> bool:
    """Return whether a file or folder is a table that :func:`read_table` reads.

    Example:
        >>> is_table(Path("a.CSV")), is_table(Path("a.npz"))
        (True, False)
    """
    return path.suffix.lower() in (".csv", ".tsv")
