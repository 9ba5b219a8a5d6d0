"""What is computed at an epoch's start: modes, random numbers and the epoch it is for."""

import pytest
import torch
from tests.methods.harness import Linear, batches, build, fit, weights

from mla_lightning.encoders.tuning import TunedEncoder
from mla_lightning.fusion import Concat
from mla_lightning.methods import Joint
from mla_lightning.methods.mechanisms.epoch_start import EpochStart


class Prepared(EpochStart):
    """Joint training that records the modes of its layers, and draws a number."""

    fit_batch = Joint.fit_batch

    def prepare_epoch(self):
        self.seen = {name: module.training for name, module in self.named_modules()}
        torch.rand(1)
        self.epochs = [*getattr(self, "epochs", ()), self.current_epoch]

    def on_train_batch_start(self, batch, batch_idx):
        super().on_train_batch_start(batch, batch_idx)
        self.trained = {name: module.training for name, module in self.named_modules()}


class HalfFrozen(TunedEncoder):
    """Its first layer is frozen and stays in evaluation mode."""

    out_features = 6

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList([Linear(5), Linear(6)])
        self.layers[1][0] = torch.nn.Linear(5, 6)
        self.freeze("last_1", [*self.layers], [])

    def forward(self, x):
        return self.layers[1](self.layers[0](x))


@pytest.mark.filterwarnings("ignore:.*in eval mode")
def test_the_modes_of_all_layers_are_restored():
    data = batches(2)
    module = build(Prepared, Concat, data, encoder=HalfFrozen)
    module.train()
    before = {name: m.training for name, m in module.named_modules()}
    assert not before["encoders.audio.layers.0"]
    assert before["encoders.audio.layers.1"]
    fit(module, data, epochs=2)
    assert not any(module.seen.values())
    assert module.trained == before


def test_random_numbers_of_the_preparation_do_not_change_the_training():
    data = batches(3)
    joint = build(Joint, Concat, data, encoder=lambda: Linear(dropout=0.5))
    prepared = build(Prepared, Concat, data, encoder=lambda: Linear(dropout=0.5))
    fit(joint, data, epochs=2)
    fit(prepared, data, epochs=2)
    assert torch.equal(weights(joint), weights(prepared))


def test_a_new_training_prepares_all_epochs_whatever_its_weights_come_from():
    data = batches(2)
    first, second = build(Prepared, Concat, data), build(Prepared, Concat, data)
    fit(first, data, epochs=2)
    state = first.state_dict()
    assert int(state["prepared_epoch"]) == 1
    second.load_state_dict(state)
    fit(second, data, epochs=3)
    assert second.epochs == [0, 1, 2]
