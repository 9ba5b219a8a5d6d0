"""Means of training losses, and the message for one that is not finite."""

import math
import re

import pytest
import torch

from mla_lightning.errors import RunError
from mla_lightning.metrics.losses import TrainingLosses


def test_means_are_over_the_batches_that_have_the_loss():
    losses = TrainingLosses()
    losses.add(0, {"a": torch.tensor(1.0), "b": torch.tensor(8.0, dtype=torch.float64)})
    losses.add(1, {"a": torch.tensor(4.0, dtype=torch.bfloat16)})
    assert losses.num_unread == 2
    assert losses.read(0) == {"a": 2.5, "b": 8.0}
    assert losses.num_unread == 0
    assert losses.read(0) == {}
    losses.add(2, {})
    assert losses.read(0) == {}
    losses.add(3, {"a": torch.tensor(7.0)})
    assert losses.end_epoch(0) == {"a": 4.0, "b": 8.0}  # read before the end, and at the end
    assert losses.end_epoch(1) == {}


def test_a_loss_keeps_the_digits_of_its_precision():
    losses = TrainingLosses()
    losses.add(0, {"a": torch.tensor(0.1, dtype=torch.float64), "b": torch.tensor(0.1)})
    assert losses.read(0) == {"a": 0.1, "b": torch.tensor(0.1).item()}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2e30])
def test_a_loss_that_is_not_finite_or_too_large_is_named_with_its_epoch_and_batch(value):
    losses = TrainingLosses()
    losses.add(4, {"a": torch.tensor(1.0), "b": torch.tensor(value)})
    with pytest.raises(RunError, match=re.escape(f"The b loss is {value} in epoch 3, batch 5")):
        losses.read(2)
