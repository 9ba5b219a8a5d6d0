"""Weights as they were at some moment, as buffers."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from mla_lightning.functional import relearning_weights
from mla_lightning.methods.mechanisms.snapshots import Snapshot


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoders = nn.ModuleDict({"audio": nn.Linear(3, 2), "visual": nn.Conv2d(1, 2, 3)})
        self.start = Snapshot({m: [*e.parameters()] for m, e in self.encoders.items()})


def move(model, by=0.5):
    with torch.no_grad():
        for parameter in model.encoders.parameters():
            parameter += by


def test_a_snapshot_stays_until_the_next_one():
    model = Model()
    before = [p.detach().clone() for p in model.encoders["audio"].parameters()]
    move(model)
    for weight, expected in zip(model.start.weights("audio"), before, strict=True):
        assert torch.equal(weight, expected)
    for step in model.start.moves("visual"):
        torch.testing.assert_close(step, torch.full_like(step, 0.5))
    model.start.take()
    for name, encoder in model.encoders.items():
        for weight, parameter in zip(model.start.weights(name), encoder.parameters(), strict=True):
            assert torch.equal(weight, parameter)
            assert weight.data_ptr() != parameter.data_ptr()


def test_a_pull_by_the_gap_of_two_purities():
    """Weights that went from 1 to 3, with purities that differ by 0.2."""
    one = nn.Parameter(torch.ones(1, dtype=torch.float64))
    start = Snapshot({"audio": [one]})
    one.data += 2.0
    start.pull("audio", relearning_weights(torch.tensor([0.2], dtype=torch.float64), 3.0)[0])
    assert one.item() == pytest.approx(1.925901, abs=1e-6)


def test_a_snapshot_is_no_parameter_and_in_every_checkpoint():
    model, other = Model(), Model()
    assert len([*model.parameters()]) == 4
    move(model)
    other.load_state_dict(model.state_dict())
    for name in model.encoders:
        for mine, theirs in zip(model.start.moves(name), other.start.moves(name), strict=True):
            assert torch.equal(mine, theirs)


def test_a_snapshot_follows_precision_and_copies():
    model = Model().double()
    assert {w.dtype for name in model.encoders for w in model.start.weights(name)} == {
        torch.float64
    }
    copied = deepcopy(model)
    move(copied)
    assert all(bool((s == 0).all()) for s in model.start.moves("audio"))
    assert all(bool((s != 0).all()) for s in copied.start.moves("audio"))


def test_a_frozen_encoder_may_have_no_parameter():
    snapshot = Snapshot({"audio": []})
    snapshot.take()
    assert snapshot.weights("audio") == snapshot.moves("audio") == []
