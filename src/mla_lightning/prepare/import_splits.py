"""Splits of imported data that keep groups together, cross-validation, and names of splits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mla_lightning.data.splits import (
    SPLITS,
    TEST,
    TRAIN,
    NamedSplit,
    Strata,
    grouped,
    named_groups,
    with_validation,
)
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.prepare.import_checks import FRACTIONS

#: Other names of the validation split.
VAL_NAMES = ("dev", "valid", "validation")
MAX_FOLDS = 100


def split_name(text: str) -> str | None:
    """Return the split that a text names, None if it names none.

    Example:
        >>> [split_name(text) for text in ("train", "dev", "validation", "tset")]
        ['train', 'val', 'val', None]
    """
    return "val" if text in VAL_NAMES else text if text in SPLITS else None


def group_split(
    labels: Sequence[str] | Strata, groups: Sequence[str], *, name: str = "group"
) -> NamedSplit:
    """Draw a split of whole groups (speakers, videos), within each class as evenly as they allow.

    Args:
        labels: (N,) class of each sample, or what else is divided evenly.
        groups: (N,) group of each sample; one whose group is empty is a group alone.
        name: Name of the attribute with the groups.

    Returns:
        The split; its description has the fractions of train, val and test that it has, and the
        classes that are in only some of them.

    Raises:
        DataError: If there are fewer than three groups.

    Example:
        >>> split = group_split(["cat", "dog"] * 20, [f"speaker {n // 4}" for n in range(40)])
        >>> np.bincount(split.codes).tolist(), split.group
        ([28, 4, 8], 'group')
        >>> split.description
        '70/10/20 at random by whole groups (10 values of group, seed 0)'
    """
    names = named_groups(groups)
    num = len(set(names))
    _check_enough(num, 3, name, "train, val and test")
    strata = Strata.of(labels)
    codes = grouped(strata.values, names, FRACTIONS, seed=0)
    realised = "/".join(f"{100 * n / len(codes):.0f}" for n in np.bincount(codes, minlength=3))
    description = f"{realised} at random by whole groups ({num} values of {name}, seed 0)"
    return NamedSplit(codes, description + _missing_classes(codes, strata), name)


def fold_splits(
    labels: Sequence[str] | Strata,
    groups: Sequence[str] | None,
    num_folds: int,
    *,
    name: str = "group",
) -> dict[str, NamedSplit]:
    """Draw the splits of a cross-validation: every sample is in test exactly once.

    The folds divide each class as evenly as possible; groups are in one fold as a whole. Of each
    split, a tenth of the samples outside of the fold is validation.

    Args:
        labels: (N,) class of each sample, or what else is divided evenly.
        groups: (N,) group of each sample, or None; one whose group is empty is a group alone.
        num_folds: Number of folds, 2 to 100.
        name: Name of the attribute with the groups.

    Returns:
        ``fold0``, ``fold1``, ... -> split, in this order.

    Raises:
        ConfigError: If the number of folds is out of range.
        DataError: If there are fewer groups (or samples) than needed.

    Example:
        >>> splits = fold_splits(["cat", "dog"] * 50, None, 5)
        >>> [*splits], np.bincount(splits["fold0"].codes).tolist()
        (['fold0', 'fold1', 'fold2', 'fold3', 'fold4'], [72, 8, 20])
        >>> tests = np.stack([split.codes == TEST for split in splits.values()])
        >>> (tests.sum(axis=0) == 1).all()
        np.True_
    """
    if not 2 <= num_folds <= MAX_FOLDS:
        raise ConfigError(f"folds must be 2 to {MAX_FOLDS}, got {num_folds}")
    strata = Strata.of(labels)
    names = named_groups(groups if groups is not None else [""] * len(strata.values))
    num = len(set(names))
    _check_enough(
        num, max(3, num_folds), name if groups is not None else "samples", f"{num_folds} folds"
    )
    fold_of = grouped(strata.values, names, (1 / num_folds,) * num_folds, seed=0)
    splits = {}
    for fold in range(num_folds):
        codes = np.where(fold_of == fold, TEST, TRAIN).astype(np.int8)
        codes = with_validation(codes, strata.values, groups=names)
        by = f", by whole groups ({num} values of {name})" if groups is not None else ""
        description = (
            f"fold {fold} of {num_folds} is test, drawn {strata.within or 'at random'}{by}; "
            "validation is a tenth of the rest (seed 0)"
        )
        description += _missing_classes(codes, strata)
        splits[f"fold{fold}"] = NamedSplit(codes, description, name if by else None)
    return splits


def _check_enough(num: int, least: int, name: str, purpose: str) -> None:
    if num < least:
        values = "samples" if name == "samples" else f"values of {name!r}"
        raise DataError(
            f"{num} {values} cannot be divided into {purpose}: at least {least} are needed"
        )


def _missing_classes(codes: np.ndarray, strata: Strata) -> str:
    """Return a clause on classes of which train or test has no sample; empty if there are none."""
    clause = ""
    for split, code in (("train", TRAIN), ("test", TEST)):
        if missing := strata.absent_from(codes, code):
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            clause += f"; {split} has no sample of {', '.join(map(str, missing[:5]))}{more}"
    return clause
