"""Columns of a table that give the label of their rows away."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from mla_lightning.run_folder.tasks import CLASSIFICATION, MULTILABEL, REGRESSION

#: Correlation with a target, in absolute value, from which a column is warned of.
LEAST_CORRELATION = 0.99
#: Fewest rows for a correlation.
_MIN_ROWS = 5
_LABEL = {CLASSIFICATION: "class", REGRESSION: "target", MULTILABEL: "set of labels"}


def leak_of(cells: Sequence[str], labels: Sequence[str], task: str) -> str:
    """Return in which way a column gives the label away, empty if it does not.

    Args:
        cells: (N,) cells of the column; an empty one is a missing value.
        labels: (N,) label of each row; see ``Item.label``.
        task: The task.

    Example:
        >>> leak_of(["f", "f", "m", "m"], ["cat", "cat", "dog", "dog"], "classification")
        'each value occurs with one class only'
        >>> leak_of(["1", "2", "3", "4", "5.5"], ["10", "20", "30", "40", "55"], "regression")
        'each value follows the target (correlation 1.000)'
        >>> lists = ['["cat"]', '["dog"]', '["cat", "dog"]', '[]', '["dog"]']
        >>> leak_of(["0", "1", "1", "0", "1"], lists, "multilabel")
        "each value follows the label 'dog' (correlation 1.000)"
    """
    if task != CLASSIFICATION and (clause := _correlated(cells, labels, task)):
        return clause
    return f"each value occurs with one {_LABEL[task]} only" * identifies_class(cells, labels)


def _correlated(cells: Sequence[str], labels: Sequence[str], task: str) -> str:
    """Return the clause on a column of numbers that follow a target or a label, or nothing."""
    rows = [row for row, cell in enumerate(cells) if cell and labels[row]]
    try:
        values = np.array([float(cells[row]) for row in rows])
    except ValueError:
        return ""
    if len(rows) < _MIN_ROWS or not np.isfinite(values).all():
        return ""
    for name, target in _targets([labels[row] for row in rows], task).items():
        if abs(correlation := _correlation(values, target)) >= LEAST_CORRELATION:
            return f"each value follows {name} (correlation {correlation:.3f})"
    return ""


def identifies_class(cells: Sequence[str], labels: Sequence[str]) -> bool:
    """Return whether values repeat and each occurs with one class only.

    Example:
        >>> identifies_class(["f", "f", "m", "m"], ["cat", "cat", "dog", "dog"])
        True
        >>> identifies_class(["f", "m", "f", "m"], ["cat", "cat", "dog", "dog"])
        False
        >>> identifies_class(["1", "2", "3", "4"], ["cat", "cat", "dog", "dog"])  # none repeats
        False
    """
    classes: dict[str, str] = {}
    num = 0
    for cell, label in zip(cells, labels, strict=True):
        if cell and label:
            num += 1
            if classes.setdefault(cell, label) != label:
                return False
    return 1 < len(classes) < num


def _targets(labels: Sequence[str], task: str) -> dict[str, np.ndarray]:
    """Return name -> (N,) numbers that a column could follow."""
    if task == REGRESSION:
        return {"the target": np.array([float(label) for label in labels])}
    lists = [set(json.loads(label)) for label in labels]
    names = sorted(set().union(*lists))
    return {
        f"the label {name!r}": np.array([float(name in labels) for labels in lists])
        for name in names
    }


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Return Pearson's correlation, 0 if one of them is constant."""
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum()) / norm if norm else 0.0
