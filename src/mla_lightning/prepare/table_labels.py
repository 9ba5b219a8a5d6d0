"""Labels of a table that are no classes: a number per row, or any number of labels per row."""

from __future__ import annotations

import ast
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mla_lightning.data.splits import SPLITS, UNUSED
from mla_lightning.data.targets import TARGETS
from mla_lightning.errors import DataError
from mla_lightning.prepare.columns import is_number, written_number
from mla_lightning.prepare.import_plan import sorted_classes
from mla_lightning.prepare.label_facts import (
    check_target,
    label_sets_entry,
    label_sets_warnings,
    target_entry,
    target_warnings,
)
from mla_lightning.prepare.table_roles import Row
from mla_lightning.run_folder.tasks import MULTILABEL, REGRESSION

#: Signs between the labels of a cell.
SEPARATORS = (";", "|")
#: Values of a column of zeros and ones.
_YES, _NO = ("1", "1.0", "true"), ("0", "0.0", "false")


class TableLabels(ABC):
    """Labels of the rows of a table, which are read to one text per row; see ``Item.label``."""

    def read(self, rows: Sequence[Row]) -> tuple[list[Row], dict[str, str]]:
        """Read the labels.

        Args:
            rows: The rows of the table.

        Returns:
            The rows with the texts as labels, empty where they cannot be read; and place -> reason
            of the latter.
        """
        labelled, reasons = [], {}
        for row in rows:
            try:
                labelled.append(replace(row, label=self._text(row)))
            except ValueError as error:
                labelled.append(replace(row, label=""))
                reasons[row.place] = str(error)
        return labelled, reasons

    @abstractmethod
    def _text(self, row: Row) -> str:
        """Return the label of a row as a text; a ValueError has the reason why there is none."""

    @abstractmethod
    def names(self, rows: Sequence[Row]) -> tuple[str, ...]:
        """Return the labels, in their order; () for a number per row."""

    @abstractmethod
    def entry(self, column: str, rows: Sequence[Row]) -> str:
        """Return what the plan says of a column of labels."""

    @abstractmethod
    def warnings(self, rows: Sequence[Row]) -> list[str]:
        """Return sentences on what a careful colleague would look at again."""

    @abstractmethod
    def check(self, rows: Sequence[Row], where: str) -> None:
        """Check that the rows that can be used have labels to learn from.

        Raises:
            DataError: If they do not.
        """


class NumberLabels(TableLabels):
    """A number per row, the target of regression.

    Example:
        >>> rows = [Row("", text, "", "", f"line {n}", {}) for n, text in enumerate(("3", "?"))]
        >>> labelled, reasons = NumberLabels().read(rows)
        >>> labelled[0].label, reasons
        ('3.0', {'line 1': "the target '?' is no number"})
    """

    def _text(self, row: Row) -> str:
        text = row.label
        if not text:
            raise ValueError("id or label is empty")
        if not is_number(text):
            if written_number(text):
                raise ValueError(
                    f"the target {text!r} is no number: write a decimal point, and nothing else"
                )
            is_endless = text.strip("+-").lower() in ("inf", "infinity", "nan")
            raise ValueError(
                f"the target {text!r} is {'not finite' if is_endless else 'no number'}"
            )
        if abs(float(text)) > float(np.finfo(np.float32).max):
            raise ValueError(f"the target {text} is too large for float32")
        return repr(float(text) + 0.0)

    def names(self, rows: Sequence[Row]) -> tuple[str, ...]:
        """Return ()."""
        return ()

    def entry(self, column: str, rows: Sequence[Row]) -> str:
        """Return range, mean, standard deviation and number of different values."""
        return target_entry(_targets(rows))

    def warnings(self, rows: Sequence[Row]) -> list[str]:
        """Return the warnings of :func:`~mla_lightning.prepare.label_facts.target_warnings`."""
        return target_warnings(_targets(rows), _codes(rows))

    def check(self, rows: Sequence[Row], where: str) -> None:
        """Check that the target varies, also in train."""
        check_target(_targets(rows), _codes(rows), where)


class ListLabels(TableLabels):
    """Any number of labels per row: in one cell, or in a column of 0 and 1 for each label.

    Example:
        >>> cells = ("dog;cat", "[]", '["dog"]', "", "dog; dog")
        >>> rows = [Row("", text, "", "", f"line {n}", {}) for n, text in enumerate(cells)]
        >>> labelled, reasons = ListLabels((), ";").read(rows)
        >>> [row.label for row in labelled]
        ['["cat", "dog"]', '[]', '["dog"]', '', '["dog"]']
        >>> reasons["line 3"]
        'the label is empty; a sample without any label has []'
    """

    def __init__(self, columns: Sequence[str], separator: str) -> None:
        """Set where the labels are.

        Args:
            columns: The columns of 0 and 1; empty if one column holds all labels of a row.
            separator: The sign between labels of a cell that is no list.
        """
        self.columns, self.separator = tuple(columns), separator
        self.num_repeated = 0

    def _text(self, row: Row) -> str:
        if self.columns:
            return _as_text([name for name in self.columns if _is_one(row.cells[name], name)])
        labels = _labels_of(row.label, self.separator)
        self.num_repeated += len(set(labels)) < len(labels)
        return _as_text(sorted(set(labels)))

    def names(self, rows: Sequence[Row]) -> tuple[str, ...]:
        """Return the columns of 0 and 1 in their order, or the labels that occur, sorted."""
        return self.columns or sorted_classes(name for row in rows for name in _list(row))

    def entry(self, column: str, rows: Sequence[Row]) -> str:
        """Return how many rows have each label, and how many labels a row has."""
        label, names = self._matrix(rows), self.names(rows)
        if self.columns:
            return f"1 in {label[:, names.index(column)].sum()} of {len(label)} rows"
        return label_sets_entry(label, names)

    def warnings(self, rows: Sequence[Row]) -> list[str]:
        """Return warnings on the labels, and on cells that name one twice."""
        warnings = label_sets_warnings(self._matrix(rows), self.names(rows), _codes(rows))
        if self.num_repeated:
            warnings.append(f"{self.num_repeated} cells name a label twice; it counts once")
        return warnings

    def _matrix(self, rows: Sequence[Row]) -> np.ndarray:
        texts = [row.label for row in rows if row.label]
        return TARGETS[MULTILABEL].encoded(texts, self.names(rows))

    def check(self, rows: Sequence[Row], where: str) -> None:
        """Check that there are two labels, and that some cell holds several of them."""
        names, lists = self.names(rows), [_list(row) for row in rows]
        if len(names) < 2:
            raise DataError(f"{where}: only one label, {next(iter(names), 'none')!r}")
        if not self.columns and all(len(labels) == 1 for labels in lists):
            has_commas = any("," in name for name in names)
            hint = " Commas do not separate labels." if has_commas else ""
            raise DataError(
                f"{where}: each row has exactly one label, such as {names[0]!r}.{hint} Separate "
                'the labels of a cell by ; or |, or write a list such as ["cat", "dog"]; or '
                "leave out task=multilabel, and they are classes"
            )


def labels_for(
    task: str | None, label_columns: Sequence[str], rows: Sequence[Row], where: str
) -> TableLabels | None:
    """Return how the labels of a table are read; None for classes, which are read as they are.

    Args:
        task: The task that the user names; None for none.
        label_columns: The columns of the labels.
        rows: The rows of the table.
        where: The file, for messages.

    Raises:
        DataError: If two signs could separate the labels of a cell.

    Example:
        >>> rows = [Row("", text, "", "", "line 2", {}) for text in ("a|b", "b")]
        >>> labels_for("multilabel", ["label"], rows, "my.csv").separator
        '|'
    """
    if task == REGRESSION:
        return NumberLabels()
    if task != MULTILABEL:
        return None
    if len(label_columns) > 1:
        return ListLabels(label_columns, "")
    cells = [row.label for row in rows if not row.label.startswith("[")]
    used = [sign for sign in SEPARATORS if any(sign in cell for cell in cells)]
    if len(used) > 1:
        raise DataError(
            f"{where}: some labels hold ; and others |. Separate all labels by one of them, or "
            'write lists such as ["cat", "dog"]'
        )
    return ListLabels((), used[0] if used else SEPARATORS[0])


# ---------------------------------------------------------------------- cells


def _targets(rows: Sequence[Row]) -> np.ndarray:
    """Return the numbers (N,) of the rows that have one."""
    return np.array([float(row.label) for row in rows if row.label])


def _codes(rows: Sequence[Row]) -> np.ndarray:
    """Return the codes (N,) of the splits of the rows that have a label; -1 for none."""
    code_of = {split: code for code, split in enumerate(SPLITS)}
    return np.array([code_of.get(row.split, UNUSED) for row in rows if row.label], dtype=np.int8)


def _list(row: Row) -> list[str]:
    return list(json.loads(row.label)) if row.label else []


def _as_text(labels: Sequence[str]) -> str:
    return json.dumps(list(labels), ensure_ascii=False)


def _is_one(cell: str, column: str) -> bool:
    if cell.lower() in _YES:
        return True
    if cell.lower() in _NO:
        return False
    held = f"holds {cell!r}" if cell else "is empty"
    raise ValueError(f"the label {column!r} {held}; it must be 0 or 1")


def _labels_of(cell: str, separator: str) -> list[str]:
    """Return the labels of a cell: a list of JSON or Python, or texts between separators."""
    if not cell:
        raise ValueError("the label is empty; a sample without any label has []")
    if not cell.startswith("["):
        return [text for part in cell.split(separator) if (text := part.strip())]
    for parse in (json.loads, ast.literal_eval):
        try:
            values = parse(cell)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if all(isinstance(v, str | int) and not isinstance(v, bool) for v in values):
            texts = [str(value).strip() for value in values]
            if all(texts):
                return texts
    raise ValueError(f"the label {cell[:40]!r} is no list of names")
