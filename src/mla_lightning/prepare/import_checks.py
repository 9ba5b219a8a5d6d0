"""Checks and splits that all imports share."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np

from mla_lightning.data.splits import UNUSED, VAL, NamedSplit, Strata, stratified, with_validation
from mla_lightning.errors import DataError, near

#: Fractions of train, val and test if the data have no split.
FRACTIONS = (0.7, 0.1, 0.2)
#: Largest difference between a fraction that is asked for and the drawn one without a word on it.
MAX_DEVIATION = 0.05
#: Name of the column, and of the array, of the data's own split.
OWN_SPLIT = "split"
RESERVED = ("id", "label", "split", "class_names", "line")
NO_SPLIT, LEFT_OUT = "the data came without a split", "the data's own is left out"
#: Name of the split of samples without labels.
NONE = "none"
#: Whether samples have labels, or are there to be predicted.
Labels = Literal["column", "none"]
#: The task that a user names; the values of :mod:`mla_lightning.run_folder.tasks`.
Task = Literal["classification", "regression", "multilabel"]


def label_hint(names: Sequence[str]) -> str:
    """Return what may be meant where no array is named ``label``.

    Args:
        names: The arrays.

    Example:
        >>> label_hint(["x", "y"])
        " If it is 'y', name it 'label'."
        >>> label_hint(["x_train", "x_test"])[:52]
        ' It has an array for each split (x_train, x_test). P'
    """
    splits = ("train", "val", "valid", "dev", "test")
    parts = [n for n in names if re.search(rf"(^|[_.])({'|'.join(splits)})([_.]|$)", n.lower())]
    if len(parts) > 1:
        return (
            f" It has an array for each split ({', '.join(parts[:4])}). Put the rows of all splits "
            "into one array of each kind, with np.concatenate, and name their split in an array "
            "'split' (N,) of train, val and test."
        )
    if similar := near("label", names):
        return similar
    usual = next((n for n in names if n.lower() in ("y", "target", "targets", "classes")), "")
    return f" If it is {usual!r}, name it 'label'." if usual else ""


def without_split(num: int) -> NamedSplit:
    """Return the split of samples without labels: they are in none."""
    return NamedSplit(np.full(num, UNUSED, dtype=np.int8), "samples without labels")


def drawn_split(labels: Sequence[str] | Strata, *, has_own: bool = False) -> NamedSplit:
    """Draw a split of data that came without one; say so where the fractions are not met.

    Args:
        labels: (N,) class of each sample, or what else is divided evenly.
        has_own: Whether the data came with one, which is left out.

    Example:
        >>> drawn_split(["cat", "dog"] * 50).description
        '70/10/20 at random within each class (seed 0); the data came without a split'
        >>> drawn_split(["cat", "dog"] * 3).description
        '33/33/33 at random within each class (seed 0), as its few samples cannot be divided ...'
    """
    strata = Strata.of(labels)
    codes = stratified(strata.values, FRACTIONS, seed=0)
    fractions = np.bincount(codes, minlength=3) / len(codes)
    origin = LEFT_OUT if has_own else NO_SPLIT
    if np.abs(fractions - FRACTIONS).max() <= MAX_DEVIATION:
        return NamedSplit(codes, f"70/10/20 {strata.at_random} (seed 0); {origin}")
    realised = "/".join(f"{100 * fraction:.0f}" for fraction in fractions)
    why = "as its few samples cannot be divided 70/10/20"
    return NamedSplit(codes, f"{realised} {strata.at_random} (seed 0), {why}; {origin}")


def check_splits(present: Collection[str], where: str) -> None:
    """Check that there are training and test samples, before anything is decoded."""
    for split in ("train", "test"):
        if split not in present:
            raise DataError(
                f"{where}: no sample of split {split!r}, only {', '.join(sorted(present))}. Name "
                "train and test (and val, or a tenth of train becomes val), or write split=draw, "
                "with which 70/10/20 are drawn from all samples"
            )


def with_validation_split(
    codes: np.ndarray,
    labels: Sequence[str] | Strata,
    description: str,
    groups: Sequence[str] | None = None,
    group: str | None = None,
) -> NamedSplit:
    """Use a tenth of train for validation if the data have none: epochs are selected on it.

    Args:
        codes: (N,) int8 codes.
        labels: (N,) class of each sample, or what else is divided evenly.
        description: The origin of the split.
        groups: (N,) groups that validation must not share with train; None for none.
        group: Name of the groups.
    """
    if (codes == VAL).any():
        return NamedSplit(codes, description)
    strata = Strata.of(labels)
    by = f"by whole groups of {group or 'group'}" if groups is not None else strata.at_random
    description += f"; validation is a tenth of train, {by} (seed 0)"
    return NamedSplit(with_validation(codes, strata.values, groups=groups), description)


def check_names(names: Sequence[str], where: str, *, known: Sequence[str]) -> None:
    """Check that names occur once, are not reserved, and can be names of files and encoders."""
    from mla_lightning.inputs.names import modality_name_problem  # imports torch

    for number, name in enumerate(names):
        problem = ""
        if name in names[:number]:
            problem = "occurs twice"
        elif name not in known and name.lower() in RESERVED:
            problem = f"cannot be the name of a modality.{near(name.lower(), known)}"
        elif name not in known and not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name):
            problem = "cannot be the name of a modality: use letters, digits, _ and -"
        elif name not in known:
            problem = modality_name_problem(name)
        if problem:
            raise DataError(f"{where}: {name!r} {problem}")


def sorted_class_names(
    labels: Sequence[str], where: str, *, is_numeric: bool = False
) -> tuple[str, ...]:
    """Return the classes that occur, sorted; there must be two."""
    counts = Counter(labels)
    if len(counts) < 2:
        raise DataError(f"{where}: only one class, {next(iter(counts), 'none')!r}")
    return tuple(sorted(counts, key=int if is_numeric else None))
