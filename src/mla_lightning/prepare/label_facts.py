"""Facts and warnings on targets of regression, and on several labels per sample, for plans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from mla_lightning.data.splits import SPLITS, TRAIN
from mla_lightning.data.targets import range_text
from mla_lightning.errors import DataError
from mla_lightning.prepare.import_plan import label_warnings, listed_counts

#: Distance from the median, in distances of the quartiles, from which a target is warned of.
FAR = 20
#: Rounding in float32, in standard deviations of the target, from which it is warned of.
MAX_ROUNDING = 1e-3
_MAX_NAMED = 8


def target_entry(values: np.ndarray) -> str:
    """Return range, mean, standard deviation and number of different values of a target.

    Args:
        values: (N,) targets.

    Example:
        >>> target_entry(np.array([-1.0, 0.0, 0.0, 2.0]))
        'target from -1 to 2, mean 0.25, sd 1.09, 3 distinct values'
    """
    if not len(values):
        return "target without any number"
    num = len(np.unique(values))
    spread = f"mean {values.mean():.3g}, sd {values.std():.3g}"
    return f"target from {range_text(values)}, {spread}, {num} distinct value{'s' * (num != 1)}"


def target_warnings(values: np.ndarray, codes: np.ndarray) -> list[str]:
    """Return sentences on a target that a careful colleague would look at again.

    Args:
        values: (N,) targets.
        codes: (N,) codes of the splits, -1 for unknown.

    Returns:
        On two values, values far from all others, differences that float32 does not hold, and
        targets of val and test outside of the range of train.

    Example:
        >>> values = np.array([*range(10), 9999.0])
        >>> for warning in target_warnings(values, np.array([0] * 10 + [2])):
        ...     print(warning)
        1 target is far from all others, such as 9999: does it stand for a missing value? ...
        1 target of test is outside of the range of train, 0 to 9
    """
    if len(values) < 2:
        return []
    warnings = []
    distinct = np.unique(values)
    if len(distinct) == 2:
        low, high = distinct
        warnings.append(f"the target is {low:g} or {high:g} only: for classes, leave out task=")
    first, median, third = np.quantile(values, (0.25, 0.5, 0.75))
    is_far = np.abs(values - median) > FAR * (third - first)
    if first < third and (num := int(is_far.sum())):
        shown = ", ".join(f"{value:g}" for value in np.unique(values[is_far])[:_MAX_NAMED])
        question = "does it stand for a missing value" if num == 1 else "are they missing values"
        warnings.append(
            f"{num} target{'s are' if num > 1 else ' is'} far from all others, such as {shown}: "
            f"{question}? Then leave out such rows"
        )
    rounding = float(np.abs(values.astype(np.float32) - values).max())
    if rounding > MAX_ROUNDING * values.std():
        warnings.append(
            "differences of the target are lost in float32: subtract a constant from all targets"
        )
    train = values[codes == TRAIN]
    for code, split in enumerate(SPLITS):
        if code != TRAIN and len(train):
            part = values[codes == code]
            if num := int(((part < train.min()) | (part > train.max())).sum()):
                verb = "s of {} are" if num > 1 else " of {} is"
                warnings.append(
                    f"{num} target{verb.format(split)} outside of the range of train, "
                    f"{range_text(train)}"
                )
    return warnings


def check_target(values: np.ndarray, codes: np.ndarray, where: str) -> None:
    """Check that a target varies, also in train.

    Raises:
        DataError: If it does not.

    Example:
        >>> check_target(np.array([2.0, 2.0, 3.0]), np.array([0, 0, 2]), "my.csv")
        Traceback (most recent call last):
        mla_lightning.errors.DataError: my.csv: the target is 2 in all samples of train, ...
    """
    for name, part in (("all samples", values), ("all samples of train", values[codes == TRAIN])):
        if len(part) and part.min() == part.max():
            raise DataError(
                f"{where}: the target is {part[0]:g} in {name}, so there is nothing to learn. "
                "Choose another label, or other rows"
            )


def label_sets_entry(label: np.ndarray, names: Sequence[str]) -> str:
    """Return how many samples have each label, and how many labels a sample has.

    Args:
        label: (N, L) of 0 and 1.
        names: The labels.

    Example:
        >>> label_sets_entry(np.array([[1, 0], [1, 1]]), ("cat", "dog"))
        '2 labels: cat 2, dog 1; 1 to 2 per sample, 1.5 on average'
    """
    counts = Counter(dict(zip(names, map(int, label.sum(axis=0).tolist()), strict=True)))
    text = f"{len(names)} labels: {listed_counts(names, counts)}"
    if not len(label):
        return text
    sizes = label.sum(axis=1)
    return f"{text}; {sizes.min()} to {sizes.max()} per sample, {sizes.mean():.3g} on average"


def label_sets_warnings(label: np.ndarray, names: Sequence[str], codes: np.ndarray) -> list[str]:
    """Return sentences on several labels that a careful colleague would look at again.

    Args:
        label: (N, L) of 0 and 1.
        names: The labels.
        codes: (N,) codes of the splits, -1 for unknown.

    Returns:
        On labels that differ only in spelling, look like a missing value, are rare, or are those
        of all samples or none; on labels that train does not have; on samples without any.

    Example:
        >>> label = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 1, 0], [1, 1, 0]])
        >>> for warning in label_sets_warnings(label, ("cat", "dog", "emu"), np.full(5, -1)):
        ...     print(warning)
        1 of 5 samples has none of the labels
        no sample has the label 'emu', and training will be refused: leave it out
    """
    counts = label.sum(axis=0)
    warnings = label_warnings(np.repeat(names, counts.astype(int)).tolist(), noun="label")
    if num := int((label.sum(axis=1) == 0).sum()):
        verb = "has" if num == 1 else "have"
        warnings.append(f"{num} of {len(label)} samples {verb} none of the labels")
    if every := [n for n, count in zip(names, counts, strict=True) if count == len(label) > 0]:
        warnings.append(f"all samples have {_quoted(every)}, of which nothing can be learnt")
    never = [n for n, count in zip(names, counts, strict=True) if count == 0]
    if never:
        warnings.append(
            f"no sample has {_quoted(never)}, and training will be refused: leave it out"
        )
    in_train = label[codes == TRAIN].sum(axis=0)
    rest = [n for n, num in zip(names, in_train, strict=True) if num == 0 and n not in never]
    if (codes == TRAIN).any() and rest:
        warnings.append(
            f"no sample of train has {_quoted(rest)}, and training on this split will be refused"
        )
    return warnings


def _quoted(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return f"the label{'s' * (len(names) > 1)} {', '.join(map(repr, names[:_MAX_NAMED]))}{more}"
