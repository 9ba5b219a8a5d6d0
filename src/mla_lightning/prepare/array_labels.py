"""Labels of imported arrays: classes, a number per sample, or rows of 0 and 1."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mla_lightning.data.splits import UNUSED, Strata
from mla_lightning.data.targets import TARGETS, UNLABELLED
from mla_lightning.errors import DataError
from mla_lightning.prepare.import_checks import sorted_class_names
from mla_lightning.prepare.import_plan import check_labels, form_warnings
from mla_lightning.prepare.label_facts import (
    check_target,
    label_sets_entry,
    label_sets_warnings,
    target_entry,
    target_warnings,
)
from mla_lightning.run_folder.tasks import MULTILABEL, REGRESSION

#: Texts that stand for a missing label in files written by Python.
_NO_LABEL = ("", "nan", "NaN", "None", "<NA>")


def texts_of(values: np.ndarray, name: str, path: Path) -> list[str]:
    """Return the values of an array as texts.

    Raises:
        DataError: If they are bytes that are no UTF-8.

    Example:
        >>> texts_of(np.array([b"cat", b"dog"]), "label", Path("my.npz"))
        ['cat', 'dog']
    """
    if values.dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: {name!r} holds bytes that are no UTF-8: {error}") from error
    return [str(value) for value in values.tolist()]


@dataclass(frozen=True)
class ArrayLabels:
    """The labels of the samples that are imported.

    Attributes:
        names: The classes or labels; () for regression, and for samples without labels.
        values: Class numbers or targets (N,), or (N, L) of 0 and 1.
        strata: What a drawn split divides evenly; None for samples without labels.
        lines: What was understood of targets or of several labels, and warnings.
    """

    names: tuple[str, ...]
    values: Sequence[int] | np.ndarray
    strata: Strata | None
    lines: tuple[str, ...] = ()


def label_problems(label: np.ndarray | None, task: str | None) -> dict[int, str]:
    """Return row -> why its label cannot be used.

    Args:
        label: The array of labels; None if there is none.
        task: The task.

    Example:
        >>> label_problems(np.array(["cat", "nan"]), None)
        {1: "the label 'nan' is no class"}
        >>> label_problems(np.array([0.5, np.nan]), "regression")
        {1: 'the target nan is not finite'}
        >>> label_problems(np.array([[0, 1], [2, 0]]), "multilabel")
        {1: 'the labels hold 2, not 0 or 1'}
    """
    if label is None:
        return {}
    if task == REGRESSION:
        if label.ndim != 1 or label.dtype.kind not in "fiu":
            return {}
        is_valid = np.abs(label) <= float(np.finfo(np.float32).max)
        return {
            row: f"the target {label[row]} is "
            + ("too large for float32" if np.isfinite(label[row]) else "not finite")
            for row in np.flatnonzero(~is_valid).tolist()
        }
    if task == MULTILABEL:
        if label.ndim != 2 or label.dtype.kind not in "fiub":
            return {}
        is_wrong = (label != 0) & (label != 1)
        return {
            row: f"the labels hold {label[row][is_wrong[row]][0]}, not 0 or 1"
            for row in np.flatnonzero(is_wrong.any(axis=1)).tolist()
        }
    if label.ndim != 1 or label.dtype.kind != "U":
        return {}
    rows = np.flatnonzero(np.isin(np.char.strip(label), _NO_LABEL)).tolist()
    return {row: f"the label {str(label[row])!r} is no class" for row in rows}


def read_labels(
    samples: Mapping[str, np.ndarray], task: str | None, path: Path, rows: np.ndarray
) -> ArrayLabels:
    """Read the labels of samples.

    Args:
        samples: ``label`` and ``class_names``, if the file has them, of the samples in use.
        task: The task that the user names; None for classes.
        path: The file, for messages.
        rows: (N,) the samples' rows in the file.

    Raises:
        DataError: If the labels do not have the form of the task.
    """
    where = str(path)
    if (label := samples.get("label")) is None:
        return ArrayLabels((), [UNLABELLED] * len(rows), None)
    codes = samples.get("split", np.full(len(rows), UNUSED))
    if task == REGRESSION:
        if label.ndim != 1 or label.dtype.kind not in "fiu":
            raise DataError(
                f"{where}: 'label' is {label.dtype} of shape {label.shape}. It must be (N,) "
                "numbers, the target of each sample." + _column_remedy(label)
            )
        if "class_names" in samples:
            raise DataError(f"{where}: 'class_names' has no meaning for task=regression")
        values = label.astype(np.float64) + 0.0
        check_target(values, codes, where)
        lines = _lines(target_entry(values), target_warnings(values, codes))
        return ArrayLabels((), values, TARGETS[task].strata(values, ()), lines)
    if task == MULTILABEL:
        names = _label_names(label, samples.get("class_names"), where)
        sets = label.astype(np.uint8)
        lines = _lines(label_sets_entry(sets, names), label_sets_warnings(sets, names, codes))
        return ArrayLabels(names, sets, TARGETS[task].strata(sets, names), lines)
    names, numbers = _numbered(samples, where, rows)
    texts, lines = texts_of(label, "label", path), ()
    if task is None and "class_names" not in samples:
        check_labels(texts, where)
        lines = _lines("", form_warnings(texts))
    return ArrayLabels(names, numbers, Strata(texts), lines)


def _lines(entry: str, warnings: Sequence[str]) -> tuple[str, ...]:
    first = (f"label: {entry}",) if entry else ()
    return (*first, *(f"warning: {warning}" for warning in warnings))


def _label_names(label: np.ndarray, class_names: np.ndarray | None, where: str) -> tuple[str, ...]:
    """Return the names of the columns of several labels; their numbers if they have none."""
    if label.ndim != 2 or label.dtype.kind not in "fiub" or label.shape[1] < 2:
        raise DataError(
            f"{where}: 'label' is {label.dtype} of shape {label.shape}. It must be (N, L) of 0 and "
            "1, a column for each of at least two labels, for task=multilabel"
        )
    if class_names is None:
        return tuple(str(number) for number in range(label.shape[1]))
    names = tuple(map(str, class_names.tolist()))
    if len(names) != label.shape[1]:
        raise DataError(
            f"{where}: 'class_names' has {len(names)} names for {label.shape[1]} columns of 'label'"
        )
    if len(set(names)) < len(names):
        raise DataError(f"{where}: 'class_names' has a name twice: {list(names)}")
    return names


def _numbered(
    samples: Mapping[str, np.ndarray], where: str, rows: np.ndarray
) -> tuple[tuple[str, ...], list[int]]:
    """Return the classes and the samples' numbers of them; ``rows`` are theirs in the file."""
    if (label := samples.get("label")) is None:
        return (), [UNLABELLED] * len(rows)
    class_names = samples.get("class_names")
    if label.ndim != 1 or label.dtype.kind not in ("iu" if class_names is not None else "iuU"):
        raise DataError(
            f"{where}: 'label' is {label.dtype} of shape {label.shape}. It must be (N,) whole "
            f"numbers{'' if class_names is not None else ' or names'}, one per sample."
            + _label_remedy(label)
        )
    if class_names is not None:
        num_names = len(class_names)
        if len(label) and not 0 <= label.min() <= label.max() < num_names:
            wrong = int(np.flatnonzero((label < 0) | (label >= num_names))[0])
            raise DataError(
                f"{where}: the label {label[wrong]} of row {rows[wrong]} has no name: "
                f"'class_names' has {num_names} names, for the labels 0 to {num_names - 1}"
            )
        if len(set(class_names.tolist())) < num_names:
            raise DataError(f"{where}: 'class_names' has a name twice: {class_names.tolist()}")
        return tuple(map(str, class_names.tolist())), [int(value) for value in label.tolist()]
    labels = [str(value) for value in label.tolist()]
    is_numeric = all(re.fullmatch(r"-?[0-9]+", text) for text in set(labels))
    names = sorted_class_names(labels, where, is_numeric=is_numeric)
    number_of = {name: number for number, name in enumerate(names)}
    return names, [number_of[text] for text in labels]


def _label_remedy(label: np.ndarray) -> str:
    if label.dtype.kind == "S":
        return " Convert bytes to texts: label.astype(str)"
    if label.dtype.kind == "f" and label.ndim == 1:
        if np.isfinite(label).all() and (label == np.round(label)).all():
            return " Convert whole numbers: label.astype(int)"
        return (
            " To predict the number: task=regression. Or divide real values into classes: "
            "np.digitize(label, bounds)"
        )
    if label.ndim == 2 and label.shape[1] > 1:
        return (
            " Convert rows with one 1 to numbers: label.argmax(axis=1). If rows can have several: "
            "task=multilabel"
        )
    return _column_remedy(label)


def _column_remedy(label: np.ndarray) -> str:
    if label.ndim > 1 and set(label.shape[1:]) == {1}:
        return " Convert one column to (N,): label.reshape(-1)"
    return ""
