"""Splits of imported data by group, and the folds of a cross-validation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mla_lightning.data.splits import TEST, TRAIN, VAL, overlap
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.prepare.import_splits import fold_splits, group_split


def drawn(seed, num=200, num_groups=20, num_classes=3):
    rng = np.random.default_rng(seed)
    groups = [f"g{n}" for n in rng.permutation(np.arange(num) % num_groups)]
    return rng.integers(0, num_classes, num).astype(str).tolist(), groups


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(3, 30), st.integers(2, 6))
def test_a_group_is_in_one_split_only(seed, num_groups, num_classes):
    labels, groups = drawn(seed, num_groups=num_groups, num_classes=num_classes)
    split = group_split(labels, groups)
    codes = {group: set() for group in groups}
    for group, code in zip(groups, split.codes.tolist(), strict=True):
        codes[group].add(code)
    assert all(len(of_group) == 1 for of_group in codes.values())
    assert set(split.codes.tolist()) == {TRAIN, VAL, TEST}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 8), st.booleans())
def test_folds_test_every_sample_once_and_keep_groups_together(seed, num_folds, has_groups):
    labels, groups = drawn(seed)
    splits = fold_splits(labels, groups if has_groups else None, num_folds)
    assert list(splits) == [f"fold{number}" for number in range(num_folds)]
    is_test = np.stack([split.codes == TEST for split in splits.values()])
    assert (is_test.sum(axis=0) == 1).all()
    for split in splits.values():
        assert set(split.codes.tolist()) == {TRAIN, VAL, TEST}
        if has_groups:
            assert overlap(split.codes, groups) == []
            in_val = np.array(groups)[split.codes == VAL]
            assert set(in_val).isdisjoint(np.array(groups)[split.codes != VAL])


def test_folds_have_the_classes_in_equal_shares():
    labels = ["rare"] * 10 + ["often"] * 90
    for split in fold_splits(labels, None, 5).values():
        in_test = np.array(labels)[split.codes == TEST]
        assert (in_test == "rare").sum() == 2
        assert (in_test == "often").sum() == 18


def test_samples_without_a_group_are_alone_and_a_missing_class_is_said():
    labels, groups = ["a", "b"] * 15, [""] * 30
    assert "30 values of speaker" in group_split(labels, groups, name="speaker").description
    labels, groups = ["a"] * 10 + ["b"] * 4, [f"g{n}" for n in range(10)] + ["one"] * 4
    assert " has no sample of b" in group_split(labels, groups).description


def test_too_few_groups_and_wrong_numbers_of_folds_are_errors():
    labels, groups = ["a", "b"] * 4, ["x", "y"] * 4
    with pytest.raises(DataError, match="2 values of 'group' cannot be divided into train, val"):
        group_split(labels, groups)
    with pytest.raises(DataError, match="2 values of 'group' cannot be divided into 5 folds: at"):
        fold_splits(labels, groups, 5)
    with pytest.raises(DataError, match="8 samples cannot be divided into 9 folds"):
        fold_splits(labels, None, 9)
    with pytest.raises(ConfigError, match="folds must be 2 to 100, got 1"):
        fold_splits(labels, None, 1)
