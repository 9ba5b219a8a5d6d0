"""How samples are divided into train, validation and test: by lists, by rule, by group."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mla_lightning.errors import ConfigError, DataError
from mla_lightning.randomness import derive_seed

SPLITS = ("train", "val", "test")
#: Codes of the splits, and of samples that are in none of them.
TRAIN, VAL, TEST, UNUSED = 0, 1, 2, -1


@dataclass(frozen=True)
class NamedSplit:
    """One way of dividing the samples of a data set.

    Attributes:
        codes: (N,) int8: 0 train, 1 validation, 2 test, -1 in none of them.
        description: What it is and where it comes from, one sentence.
        group: Name of the attribute (speaker, session) that no two parts share; None for none.
    """

    codes: np.ndarray
    description: str
    group: str | None = None


def stratified(
    labels: Sequence[str], fractions: tuple[float, float, float], seed: int
) -> np.ndarray:
    """Divide each class at random in the same proportions.

    Args:
        labels: (N,) class of each sample.
        fractions: Shares of train, validation and test, in sum 1.
        seed: Draws the division; nothing else does, so it is the same everywhere.

    Returns:
        (N,) int8 codes.

    Raises:
        ConfigError: If the fractions are not shares of one whole.
    """
    return grouped(labels, [str(number) for number in range(len(labels))], fractions, seed)


def grouped(
    labels: Sequence[str],
    groups: Sequence[str],
    fractions: tuple[float, float, float],
    seed: int,
) -> np.ndarray:
    """Divide whole groups (speakers, near-duplicates), each class as evenly as groups allow.

    Groups are taken largest first, ties at random, each into the part that then is closest to its
    share of the group's classes.

    Args:
        labels: (N,) class of each sample.
        groups: (N,) group of each sample.
        fractions: Shares of train, validation and test, in sum 1.
        seed: Draws the order of groups of equal size.

    Returns:
        (N,) int8 codes.

    Raises:
        ConfigError: If the fractions are not shares of one whole.
        DataError: If there are fewer groups than parts.
    """
    shares = np.asarray(fractions, dtype=float)
    if (shares < 0).any() or abs(shares.sum() - 1) > 1e-6:
        raise ConfigError(f"shares of train, val and test must sum to 1, got {tuple(fractions)}")
    _, label = np.unique(np.asarray(labels), return_inverse=True)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    if len(names) < np.count_nonzero(shares):
        raise DataError(f"{len(names)} groups cannot be divided into {np.count_nonzero(shares)}")
    counts = np.zeros((len(names), label.max() + 1))
    np.add.at(counts, (group, label), 1)
    wanted = shares[:, None] * counts.sum(axis=0)
    rng = np.random.default_rng(derive_seed(seed, "split"))
    order = np.lexsort((rng.permutation(len(names)), -counts.sum(axis=1)))
    have, part = np.zeros_like(wanted), np.zeros(len(names), dtype=np.int8)
    for number in order:
        # How far this part still is from its share of the classes that the group holds.
        open_ = wanted - have
        lack = (open_ * counts[number]).sum(axis=1) / counts[number].sum()
        lack += 1e-6 * open_.sum(axis=1)  # of equals the part that lacks most in all
        lack = np.where(shares > 0, lack / np.maximum(shares, 1e-12), -np.inf)
        part[number] = int(np.argmax(lack))
        have[part[number]] += counts[number]
    return part[group]


def from_lists(
    ids: Sequence[str], lists: Mapping[str, Sequence[str]], where: str = "the list files"
) -> np.ndarray:
    """Divide by lists of ids.

    Args:
        ids: (N,) ids of the samples.
        lists: ``train``, ``test`` and perhaps ``val`` -> ids. Samples in no list are unused.
        where: What the lists are, for messages.

    Returns:
        (N,) int8 codes.

    Raises:
        DataError: If an id is unknown or in two lists.
    """
    row = {name: number for number, name in enumerate(ids)}
    codes = np.full(len(ids), UNUSED, dtype=np.int8)
    for part, code in (("train", TRAIN), ("val", VAL), ("test", TEST)):
        wanted = lists.get(part, ())
        if unknown := [name for name in wanted if name not in row]:
            raise DataError(
                f"{where}: {len(unknown)} of {len(wanted)} ids of {part!r} are not in the data, "
                f"such as {', '.join(unknown[:3])}"
            )
        rows = [row[name] for name in wanted]
        if twice := [ids[number] for number in rows if codes[number] != UNUSED]:
            raise DataError(f"{where}: {twice[0]!r} is in {part!r} and in another list, or twice")
        codes[rows] = code
    return codes


def with_validation(
    codes: np.ndarray,
    labels: Sequence[str],
    *,
    fraction: float = 0.1,
    seed: int = 0,
    groups: Sequence[str] | None = None,
) -> np.ndarray:
    """Take a validation part from train, for splits that come without one.

    Args:
        codes: (N,) int8 codes without a validation part.
        labels: (N,) class of each sample.
        fraction: Share of train that becomes validation.
        seed: Draws the part.
        groups: (N,) groups that must stay together, such as speakers; None for none.

    Returns:
        (N,) int8 codes.
    """
    train = np.flatnonzero(codes == TRAIN).tolist()
    some = [labels[number] for number in train]
    shares = (1 - fraction, fraction, 0.0)
    if groups is None:
        part = stratified(some, shares, seed)
    else:
        part = grouped(some, [groups[number] for number in train], shares, seed)
    found = codes.copy()
    found[np.asarray(train)[part == VAL]] = VAL
    return found


def near_duplicates(texts: Sequence[str]) -> list[str]:
    """Name the group of each text: texts that differ in case, digits, links or signs are one.

    Args:
        texts: (N,) texts.

    Returns:
        (N,) group names; a text without any word is a group of its own.
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
        values: (N,) value of each sample; empty ones do not count.

    Returns:
        The values, sorted.
    """
    array = np.asarray(values)
    both = set(array[codes == TRAIN].tolist()) & set(array[codes == TEST].tolist())
    return sorted(both - {""})
