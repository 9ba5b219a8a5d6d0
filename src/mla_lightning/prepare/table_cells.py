"""Cells of a table as inputs: vectors of numbers and categories, and rows that cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from mla_lightning.data.stored_inputs import TABULAR_NAME
from mla_lightning.media.base import ArrayInput, FileInput, TextInput
from mla_lightning.media.values import Values
from mla_lightning.prepare.columns import (
    Column,
    exists,
    is_number,
    numbers_of,
    written_number,
)
from mla_lightning.prepare.file_cells import FileCell, bytes_problem
from mla_lightning.prepare.import_checks import Labels
from mla_lightning.prepare.kinds import TABULAR, UNCLEAR
from mla_lightning.prepare.like_store import LikeStore
from mla_lightning.prepare.table_roles import Row

#: Number of rows that are listed in a message.
MAX_LISTED = 20


@dataclass(frozen=True)
class Problem:
    """Reason why a row cannot be used.

    Attributes:
        row: The row.
        reason: The reason.
        modality: The column; empty if it is about the whole row.
        file: The file, as in the table; empty if it is not about one.
    """

    row: Row
    reason: str
    modality: str = ""
    file: str = ""

    def as_failure(self) -> dict[str, str]:
        """Return the entry in the manifest of the store."""
        return {
            "id": self.row.id or self.row.place,
            "modality": self.modality,
            "file": self.file,
            "reason": f"{self.row.place}: {self.reason}",
        }

    @staticmethod
    def message(problems: Sequence[Problem], where: str, num_rows: int) -> str:
        """Return the message on rows that cannot be used, with the remedy.

        Example:
            >>> row = Row("a", "", "", "", "line 2", {})
            >>> Problem.message([Problem(row, "id or label is empty")], "my.csv", 9)
            'my.csv, line 2: id or label is empty. Repair it, or leave the row out: on_bad=skip'
        """
        if len(problems) == 1:
            (problem,) = problems
            return (
                f"{where}, {problem.row.place}: {problem.reason}. Repair it, or leave the row out: "
                "on_bad=skip"
            )
        lines = [f"{where}: {len(problems)} of {num_rows} rows cannot be used:"]
        lines += [f"  {p.row.place}: {p.reason}" for p in problems[:MAX_LISTED]]
        if len(problems) > MAX_LISTED:
            lines.append(f"  and {len(problems) - MAX_LISTED} more")
        if len(problems) < num_rows:
            lines.append("Repair them, or leave these rows out: on_bad=skip")
        return "\n".join(lines)


class Vectors:
    """The modalities of a table that are made of numbers, and the names of all modalities.

    A column of lists is a modality; all columns of numbers and categories together are the
    modality ``tabular``: a number as it is, a category as a one-hot code, which is zero where the
    cell is empty. The categories are those of all rows: one without a sample in train is a constant
    column there, which becomes zero when the columns are standardised.

    Attributes:
        modalities: All modalities of the table.
        names: Those that are made of numbers.
        tabular_names: Meaning of the values of ``tabular``, such as ``age`` or ``sex=f``.

    Example:
        >>> cells = [{"age": "9", "sex": "m"}, {"age": "7", "sex": "f"}]
        >>> rows = [Row("", "", "", "", "", row) for row in cells]
        >>> kinds = {"age": "number", "sex": "category"}
        >>> columns = {name: Column(name, kind, "") for name, kind in kinds.items()}
        >>> vectors = Vectors(columns, rows)
        >>> vectors.tabular_names, vectors.input_of("tabular", rows[0]).values
        (['age', 'sex=f', 'sex=m'], array([9., 0., 1.], dtype=float32))
    """

    def __init__(
        self, columns: Mapping[str, Column], rows: Sequence[Row], like: LikeStore | None = None
    ) -> None:
        """Collect the categories, and the shape of the lists of each column.

        Args:
            columns: Name -> column.
            rows: The rows.
            like: The store whose categories and shapes are taken; None for those of the rows.
        """
        self._like = like
        order = [*like.columns] if like else [*columns]
        self._tabular = [columns[name] for name in order if columns[name].kind in TABULAR]
        self._categories = {
            column.name: like.categories.get(column.name, [])
            if like
            else sorted({row.cells[column.name] for row in rows} - {""})
            for column in self._tabular
            if column.kind == "category"
        }
        self._shapes: dict[str, tuple[int, ...]] = {}
        for column in columns.values():
            if column.kind not in ("features", "sequence") or column.is_path:
                continue
            if like:
                self._shapes[column.name] = like.options(column.name)["shape"]
            else:
                shapes = Counter(_shape(row.cells[column.name]) for row in rows)
                shapes.pop(None, None)
                self._shapes[column.name] = shapes.most_common(1)[0][0] or () if shapes else ()
        self.tabular_names: list[str] = []
        for column in self._tabular:
            codes = self._categories.get(column.name)
            names = [column.name] if codes is None else [f"{column.name}={c}" for c in codes]
            self.tabular_names += names
        self.names = (*self._shapes, *([TABULAR_NAME] if self._tabular else []))
        skipped = ("ignore", UNCLEAR, *TABULAR)
        others = [column.name for column in columns.values() if column.kind not in skipped]
        self.modalities = (*others, *([TABULAR_NAME] if self._tabular else []))

    def input_of(self, modality: str, row: Row) -> ArrayInput | None:
        """Return the numbers of a row; None if they are absent, or the modality has none."""
        if modality not in self.names or self.problem_of(modality, row):
            return None
        if modality != TABULAR_NAME:
            values = numbers_of(row.cells[modality]) if row.cells[modality] else None
            return None if values is None else ArrayInput(np.array(values, dtype=np.float32))
        if not any(row.cells[column.name] for column in self._tabular):
            return None
        numbers: list[float] = []
        for column in self._tabular:
            cell, codes = row.cells[column.name], self._categories.get(column.name)
            numbers += [float(cell)] if codes is None else [float(code == cell) for code in codes]
        return ArrayInput(np.array(numbers, dtype=np.float32))

    def problem_of(self, modality: str, row: Row) -> str:
        """Return why the cells of a row are no numbers as the others; empty if they are."""
        if modality in self._shapes:
            cell = row.cells[modality]
            shape, expected = _shape(cell), self._shapes[modality]
            if cell and shape != expected:
                held = "no list of numbers" if shape is None else f"numbers of shape {shape}"
                return f"the column {modality!r} holds {held}, not of shape {expected}"
        elif modality == TABULAR_NAME and any(row.cells[c.name] for c in self._tabular):
            for column in self._tabular:
                cell = row.cells[column.name]
                if column.kind == "number" and not cell:
                    return f"the number {column.name!r} is empty"
                if column.kind == "number" and not is_number(cell):
                    hint = "; write a dot for decimals, and nothing else"
                    return (
                        f"{cell!r} in the column {column.name!r} is no number"
                        f"{hint if written_number(cell) else ''}"
                    )
                codes = self._categories.get(column.name)
                if self._like and codes is not None and cell and cell not in codes:
                    return (
                        f"{cell!r} is no category of {column.name!r} in {self._like.folder}, which "
                        f"has {', '.join(codes[:8])}{', ...' if len(codes) > 8 else ''}; empty the "
                        "cell if none of them fits"
                    )
        return ""

    def extractor(self, modality: str) -> Values | None:
        """Return the extractor of a modality of numbers, None for others."""
        if modality not in self.names:
            return None
        shape = self._shapes.get(modality, (len(self.tabular_names),))
        return Values(shape)


def input_of(cell: str, column: Column) -> FileInput | TextInput:
    """Return the file or text of a cell that is not empty.

    Example:
        >>> input_of("a dog", Column("words", "text", "sentences"))
        TextInput(text='a dog')
    """
    if isinstance(cell, FileCell):
        return cell.file
    return FileInput(Path(cell)) if column.is_path else TextInput(cell)


def problems_of(
    rows: Sequence[Row],
    columns: Mapping[str, Column],
    vectors: Vectors,
    folder: Path,
    labels: Labels,
    label_problems: Mapping[str, str] | None = None,
) -> list[Problem]:
    """Return the first problem of each row that cannot be used.

    Args:
        rows: The rows.
        columns: Name -> column.
        vectors: The modalities of numbers.
        folder: Folder that paths are relative to.
        labels: ``none`` if the rows need no label.
        label_problems: Place of a row -> why its label cannot be read.

    Returns:
        Rows with an empty id or label, a label that cannot be read, missing files, numbers that are
        none, or no modality.
    """
    names = [name for name in vectors.modalities if name in columns]
    paths = {name: columns[name] for name in names if columns[name].is_path}
    cells = [c.name for c in columns.values() if c.kind not in ("ignore", UNCLEAR)]
    problems = []
    for row in rows:
        if row.id and (reason := (label_problems or {}).get(row.place)):
            problems.append(Problem(row, reason))
        elif not row.id or (labels == "column" and not row.label):
            problems.append(Problem(row, "id or label is empty"))
        elif cells and not any(row.cells[name] for name in cells):
            problems.append(Problem(row, "the cells of all modalities are empty"))
        elif problem := _problem_of(row, paths, vectors, folder):
            problems.append(problem)
    return problems


def _problem_of(
    row: Row, paths: Mapping[str, Column], vectors: Vectors, folder: Path
) -> Problem | None:
    for name, column in paths.items():
        cell = row.cells[name]
        if isinstance(cell, FileCell):
            if reason := bytes_problem(cell, name, column.kind):
                return Problem(row, reason, name, cell.file.place)
        elif cell and not exists(folder / cell):
            return Problem(row, f"there is no file {_missing(folder, cell)}", name, cell)
    for name in vectors.names:
        if reason := vectors.problem_of(name, row):
            return Problem(row, reason, name)
    return None


def _missing(folder: Path, cell: str) -> str:
    """Return the path of a file that does not exist, with what may be meant."""
    if cell.startswith("file://"):
        return f"{cell}; write its path without file://"
    if "://" in cell:
        return f"{cell}; download the files first"
    path = folder / cell
    slashed = folder / cell.replace("\\", "/")
    expanded = Path(cell).expanduser()
    for other in (slashed, expanded):
        if other != path and exists(other):
            return f"{path}, but there is {other}: write it so"
    names = _names_in(slashed.parent)
    other_name = names.get(slashed.name.casefold()) or names.get(slashed.stem.casefold())
    if other_name is None or not exists(slashed.parent / other_name):
        return f"{path}{' (it is a link to one that is gone)' if path.is_symlink() else ''}"
    return f"{path}, but there is {slashed.parent / other_name}"


@lru_cache(maxsize=64)
def _names_in(folder: Path) -> dict[str, str]:
    """Return name in lower case, with and without its ending -> name of a file of a folder."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return {}
    stems = {Path(name).stem.casefold(): name for name in names}
    return stems | {name.casefold(): name for name in names}


def _shape(cell: str) -> tuple[int, ...] | None:
    values = numbers_of(cell) if cell else None
    if values is None or not np.isfinite(np.concatenate([np.ravel(v) for v in values])).all():
        return None
    lengths = {len(step) for step in values if isinstance(step, list)}
    if not lengths:
        return (len(values),)
    return (len(values), lengths.pop()) if len(lengths) == 1 else None
