"""Splits: fractions, groups that stay together, lists of ids, and values that splits share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mla_lightning.data.splits import (
    from_lists,
    grouped,
    near_duplicates,
    overlap,
    stratified,
    with_validation,
)
from mla_lightning.errors import ConfigError, DataError


def test_every_class_is_divided_in_the_same_proportions():
    labels = ["a"] * 100 + ["b"] * 50
    codes = stratified(labels, (0.6, 0.2, 0.2), seed=0)
    for label, number in (("a", 100), ("b", 50)):
        of_class = codes[np.array(labels) == label]
        assert np.bincount(of_class).tolist() == [0.6 * number, 0.2 * number, 0.2 * number]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.integers(6, 40), st.integers(2, 5))
def test_no_group_is_in_two_splits(seed, num_groups, num_classes):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, num_groups, 300).astype(str).tolist()
    labels = rng.integers(0, num_classes, 300).astype(str).tolist()
    codes = grouped(labels, groups, (0.7, 0.1, 0.2), seed)
    assert overlap(codes, groups) == []
    for group in set(groups):
        assert len(set(codes[np.array(groups) == group].tolist())) == 1
    assert (codes == grouped(labels, groups, (0.7, 0.1, 0.2), seed)).all()


def test_fractions_of_many_groups_are_nearly_realised():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 91, 2000).astype(str).tolist()
    labels = rng.integers(0, 6, 2000).astype(str).tolist()
    codes = grouped(labels, groups, (0.7, 0.1, 0.2), 0)
    fractions = np.bincount(codes) / 2000
    assert fractions == pytest.approx([0.7, 0.1, 0.2], abs=0.02)


def test_the_seed_changes_the_split_and_the_fractions_are_checked():
    labels = [str(number % 3) for number in range(60)]
    assert (
        stratified(labels, (0.5, 0.25, 0.25), 0) != stratified(labels, (0.5, 0.25, 0.25), 1)
    ).any()
    with pytest.raises(ConfigError, match="must sum to 1"):
        stratified(labels, (0.5, 0.1, 0.1), 0)
    with pytest.raises(DataError, match="2 groups cannot be divided into 3 splits"):
        grouped(labels[:4], ["x", "x", "y", "y"], (0.5, 0.25, 0.25), 0)


def test_lists_of_ids_give_the_splits():
    codes = from_lists(["a", "b", "c", "d"], {"train": ["b", "d"], "test": ["a"]})
    assert codes.tolist() == [2, 0, -1, 0]
    with pytest.raises(DataError, match="1 of 2 ids of 'train' are not in the data, such as z"):
        from_lists(["a"], {"train": ["a", "z"]})
    with pytest.raises(DataError, match="'a' is in 'test' and in another list"):
        from_lists(["a", "b"], {"train": ["a"], "test": ["a"]})


def test_validation_comes_only_from_train():
    labels = [str(number % 4) for number in range(400)]
    codes = np.array([0] * 300 + [2] * 100, dtype=np.int8)
    new_codes = with_validation(codes, labels, fraction=0.1, seed=0)
    assert np.bincount(new_codes).tolist() == [268, 32, 100] or (new_codes == 1).sum() in range(
        28, 33
    )
    assert (new_codes[300:] == 2).all()
    groups = [str(number // 20) for number in range(400)]
    new_codes = with_validation(codes, labels, fraction=0.2, seed=0, groups=groups)
    assert set(np.array(groups)[new_codes == 1]).isdisjoint(np.array(groups)[new_codes == 0])


def test_near_duplicates_and_overlap():
    texts = ["RT Good morning! http://x.y/1", "good morning 22", "Bad night", "!!!", "???"]
    groups = near_duplicates(texts)
    assert groups[0] == groups[1] != groups[2]
    assert groups[3] != groups[4]
    assert overlap(np.array([0, 2, 0, 2]), ["p", "p", "q", ""]) == ["p"]
