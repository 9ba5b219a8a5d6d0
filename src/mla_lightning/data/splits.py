"""Division of samples into train, val and test: at random, by group, or by lists of ids."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mla_lightning.errors import ConfigError, DataError
from mla_lightning.randomness import derive_seed

SPLITS = ("train", "val", "test")
#: Name of the part of train that is never trained on (``data.held_out``).
HELD_OUT = "held_out"
#: Codes of the splits, and of samples that are in none of them.
TRAIN, VAL, TEST, UNUSED = 0, 1, 2, -1


@dataclass(frozen=True)
class NamedSplit:
    """One named split of a data set into train, val and test, such as ``official`` or ``random``.

    Attributes:
        codes: (N,) int8: 0 train, 1 val, 2 test, -1 none of them.
        description: The rule and its origin, in one sentence.
        group: Attribute (speaker, session) of which train, val and test share no value; None if
            there is none.

    Example:
        >>> split = NamedSplit(np.array([0, 0, 1, 2], dtype=np.int8), "The first two train.")
        >>> int((split.codes == TEST).sum())
        1
    """

    codes: np.ndarray
    description: str
    group: str | None = None


@dataclass(frozen=True)
class Strata:
    """What a drawn split divides evenly: classes, parts of a target's range, or labels.

    Attributes:
        values: (N,) name of each sample's class or part; or (N, K) weights of each sample in K
            properties, such as labels, of which one sample can have several.
        within: How, for the description of the split; empty for at random alone.
        names: Names of the first properties of weights, for messages.

    Example:
        >>> Strata(["cat", "dog"]).within
        'within each class'
    """

    values: Sequence[str] | np.ndarray
    within: str = "within each class"
    names: tuple[str, ...] = ()

    @property
    def at_random(self) -> str:
        """Return the words on how samples are drawn."""
        return f"at random {self.within}".rstrip()

    @staticmethod
    def of(labels: Sequence[str] | Strata) -> Strata:
        """Return strata as they are, and those of classes."""
        return labels if isinstance(labels, Strata) else Strata(labels)

    def absent_from(self, codes: np.ndarray, code: int) -> list[str]:
        """Return the names, sorted, of which no sample of a split has any."""
        rows = codes == code
        if np.ndim(self.values) == 2:
            counts = np.asarray(self.values)[rows, : len(self.names)].sum(axis=0)
            return sorted(n for n, count in zip(self.names, counts, strict=True) if not count)
        array = np.asarray(self.values)
        return sorted(set(array.tolist()) - set(array[rows].tolist()))


def stratified(
    labels: Sequence[str] | np.ndarray, fractions: tuple[float, float, float], seed: int
) -> np.ndarray:
    """Divide each class at random in the same proportions.

    Args:
        labels: (N,) class of each sample, or (N, K) weights; see :class:`Strata`.
        fractions: Fractions of train, val and test, which sum to 1.
        seed: Seed of the split, its only source of randomness.

    Returns:
        (N,) int8 codes.

    Raises:
        ConfigError: If the fractions are negative or do not sum to 1.

    Example:
        >>> codes = stratified(["cat"] * 10 + ["dog"] * 20, (0.6, 0.2, 0.2), seed=0)
        >>> np.bincount(codes[:10]).tolist(), np.bincount(codes[10:]).tolist()
        ([6, 2, 2], [12, 4, 4])
    """
    return grouped(labels, [str(number) for number in range(len(labels))], fractions, seed)


def grouped(
    labels: Sequence[str] | np.ndarray,
    groups: Sequence[str],
    fractions: tuple[float, ...],
    seed: int,
) -> np.ndarray:
    """Divide whole groups (speakers, near-duplicates), in each class as evenly as groups allow.

    Groups are assigned in the order of their size, ties at random, each to the split that is
    furthest from its fraction of the group's classes. With weights, the size is their sum: if rare
    labels weigh more, this is the order of iterative stratification (Sechidis et al., 2011).

    Args:
        labels: (N,) class of each sample, or (N, K) weights; see :class:`Strata`.
        groups: (N,) group of each sample.
        fractions: Fractions of train, val and test, or of any other number of sets, such as the
            folds of a cross-validation; they sum to 1.
        seed: Seed of the order of groups of equal size.

    Returns:
        (N,) int8 codes.

    Raises:
        ConfigError: If the fractions are negative or do not sum to 1.
        DataError: If there are fewer groups than splits.

    Example:
        Ten speakers with four samples each; no speaker is in two splits:

        >>> speakers = [f"speaker {n // 4}" for n in range(40)]
        >>> codes = grouped(["cat", "dog"] * 20, speakers, (0.7, 0.1, 0.2), seed=0)
        >>> np.bincount(codes).tolist(), overlap(codes, speakers)
        ([28, 4, 8], [])
    """
    wanted_fractions = np.asarray(fractions, dtype=float)
    if (wanted_fractions < 0).any() or abs(wanted_fractions.sum() - 1) > 1e-6:
        raise ConfigError(f"fractions of train, val, test must sum to 1, got {tuple(fractions)}")
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    num_splits = np.count_nonzero(wanted_fractions)
    if len(names) < num_splits:
        raise DataError(f"{len(names)} groups cannot be divided into {num_splits} splits")
    counts = _counts(labels, group, len(names))  # (groups, classes)
    wanted = wanted_fractions[:, None] * counts.sum(axis=0)  # (splits, classes)
    rng = np.random.default_rng(derive_seed(seed, "split"))
    order = np.lexsort((rng.permutation(len(names)), -counts.sum(axis=1)))
    assigned, split = np.zeros_like(wanted), np.zeros(len(names), dtype=np.int8)
    for number in order:
        # Samples that each split still needs of the classes of this group.
        needed = wanted - assigned
        deficit = (needed * counts[number]).sum(axis=1) / counts[number].sum()
        deficit += 1e-6 * needed.sum(axis=1)  # ties: the split that needs the most in total
        relative = deficit / np.maximum(wanted_fractions, 1e-12)
        split[number] = int(np.argmax(np.where(wanted_fractions > 0, relative, -np.inf)))
        assigned[split[number]] += counts[number]
    return split[group]


def _counts(labels: Sequence[str] | np.ndarray, group: np.ndarray, num_groups: int) -> np.ndarray:
    """Return the number of samples, or the sum of weights, of each group and class."""
    if np.ndim(labels) == 2:
        weights = np.asarray(labels)
        counts = np.zeros((num_groups, weights.shape[1]))
        np.add.at(counts, group, weights)
        return counts
    _, label = np.unique(np.asarray(labels), return_inverse=True)
    counts = np.zeros((num_groups, label.max() + 1))
    np.add.at(counts, (group, label), 1)
    return counts


def from_lists(
    ids: Sequence[str], lists: Mapping[str, Sequence[str]], where: str = "the list files"
) -> np.ndarray:
    """Divide by lists of ids.

    Args:
        ids: (N,) ids of the samples.
        lists: ``train``, ``test`` and optionally ``val`` -> ids. Samples in no list are unused.
        where: Name of the lists, for messages.

    Returns:
        (N,) int8 codes.

    Raises:
        DataError: If an id is unknown or in two lists.

    Example:
        >>> from_lists(["a", "b", "c", "d"], {"train": ["b", "d"], "test": ["a"]}).tolist()
        [2, 0, -1, 0]
    """
    row_of = {name: row for row, name in enumerate(ids)}
    codes = np.full(len(ids), UNUSED, dtype=np.int8)
    for split, code in zip(SPLITS, (TRAIN, VAL, TEST), strict=True):
        listed = lists.get(split, ())
        if unknown := [name for name in listed if name not in row_of]:
            raise DataError(
                f"{where}: {len(unknown)} of {len(listed)} ids of {split!r} are not in the data, "
                f"such as {', '.join(unknown[:3])}"
            )
        rows = [row_of[name] for name in listed]
        if repeated := [ids[row] for row in rows if codes[row] != UNUSED]:
            raise DataError(
                f"{where}: {repeated[0]!r} is in {split!r} and in another list, or twice"
            )
        codes[rows] = code
    return codes


def with_validation(
    codes: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    *,
    fraction: float = 0.1,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> np.ndarray:
    """Move samples from train to validation, for named splits without a validation split.

    Args:
        codes: (N,) int8 codes without validation.
        labels: (N,) class of each sample, or (N, K) weights; see :class:`Strata`.
        fraction: Fraction of train that becomes validation.
        seed: Seed of the draw.
        groups: (N,) groups that must stay together, such as speakers; None for none.

    Returns:
        (N,) int8 codes.

    Example:
        >>> codes = np.array([0] * 20 + [2] * 10, dtype=np.int8)
        >>> np.bincount(with_validation(codes, ["cat", "dog"] * 15)).tolist()
        [18, 2, 10]
    """
    train_rows = np.flatnonzero(codes == TRAIN)
    train_labels = np.asarray(labels)[train_rows]
    train_groups = None if groups is None else [groups[row] for row in train_rows.tolist()]
    new_codes = codes.copy()
    new_codes[train_rows[part_of(train_labels, fraction, train_groups, seed)]] = VAL
    return new_codes


def part_of(
    labels: Sequence[str] | np.ndarray,
    fraction: float,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Choose a part of some samples at random, of each class as evenly as possible.

    Args:
        labels: (N,) class of each sample, or (N, K) weights; see :class:`Strata`.
        fraction: Fraction of the samples that the part has.
        groups: (N,) groups that must stay together, such as speakers; None for none.
        seed: Seed of the draw.

    Returns:
        (N,) bool, true for the samples of the part.

    Raises:
        ConfigError: If the fraction is not between 0 and 1.
        DataError: If there are fewer than two groups or samples.

    Example:
        >>> is_in_part = part_of(["cat"] * 10 + ["dog"] * 20, 0.1)
        >>> int(is_in_part[:10].sum()), int(is_in_part[10:].sum())
        (1, 2)
    """
    names = [str(number) for number in range(len(labels))] if groups is None else groups
    return grouped(labels, names, (1 - fraction, fraction), seed) == 1


def held_out_part(
    strata: Strata, fraction: float, groups: Sequence[str] | None = None
) -> np.ndarray:
    """Choose the training samples that are held out, so that the others still have every class.

    Args:
        strata: What is divided evenly.
        fraction: Fraction of the samples that is held out.
        groups: (N,) groups that must stay together; None for none. An empty name is a group alone.

    Returns:
        (N,) bool, true for those held out; a function of the arguments alone.

    Raises:
        DataError: If there are fewer than two groups or samples.

    Example:
        >>> is_held_out = held_out_part(Strata(["cat"] * 20 + ["dog"]), 0.1)
        >>> int(is_held_out[:20].sum()), bool(is_held_out[20])
        (2, False)
    """
    values = np.asarray(strata.values)
    names = named_groups([""] * len(values) if groups is None else groups)
    codes = np.where(part_of(values, fraction, names), UNUSED, TRAIN)
    while absent := strata.absent_from(codes, TRAIN):
        is_column = values.ndim == 2
        has = values[:, strata.names.index(absent[0])] > 0 if is_column else values == absent[0]
        codes[np.asarray(names) == names[int(np.flatnonzero(has)[0])]] = TRAIN
    return codes == UNUSED


def named_groups(groups: Sequence[str]) -> list[str]:
    """Return the group of each sample, where an empty one becomes a group alone.

    Numbered names have a blank before them, so that they differ from the groups of the data.

    Args:
        groups: (N,) names of groups, some of them empty.

    Example:
        >>> named_groups(["Ann", "", "Ann", ""])
        ['Ann', ' 1', 'Ann', ' 3']
    """
    texts = [str(group).strip() for group in groups]
    width = len(str(len(texts)))
    return [text or f" {number:0{width}d}" for number, text in enumerate(texts)]


def near_duplicates(texts: Sequence[str]) -> list[str]:
    """Return the group of each text: texts that differ in case, digits, links or signs are equal.

    Args:
        texts: (N,) texts.

    Returns:
        (N,) group names; a text without any word is a group alone.

    Example:
        >>> near_duplicates(["RT Good morning! http://x.y/1", "good morning 22", "Bad night", "!"])
        ['good morning', 'good morning', 'bad night', '#3']
    """
    groups = []
    for number, text in enumerate(texts):
        plain = re.sub(r"https?://\S+|www\.\S+", " ", text.lower())
        words = re.findall(r"[^\W\d_]+", plain)
        groups.append(" ".join(words[1:] if words[:1] == ["rt"] else words) or f"#{number}")
    return groups


def overlap(codes: np.ndarray, values: Sequence[str]) -> list[str]:
    """List the values (speakers, texts) that occur both in train and in test.

    Args:
        codes: (N,) int8 codes.
        values: (N,) value of each sample; empty ones are ignored.

    Returns:
        The values, sorted.

    Example:
        >>> overlap(np.array([TRAIN, TRAIN, TEST]), ["Ann", "Bob", "Ann"])
        ['Ann']
    """
    array = np.asarray(values)
    shared = set(array[codes == TRAIN].tolist()) & set(array[codes == TEST].tolist())
    return sorted(shared - {""})
