"""A training that begins with the weights of another one remembers nothing else of it."""

import pytest
import torch
from tests.methods.catalogue import METHODS, SIZE, build_method, incomplete_batch
from tests.methods.harness import fit, weights

from mla_lightning.batch import slice_batch
from mla_lightning.methods.mechanisms.stages import Stages

#: Method that remembers something in buffers -> settings by which it has an effect.
REMEMBER = {
    "agm": {},
    "aug": {"check_every": 2, "threshold": 0.0},
    "cggm": {},
    "gblend": {"estimate": "consecutive", "super_epoch": 1, "lookahead_epochs": 10},
    "inforeg": {},
    "lfm": {"weight": "learnable"},
    "pmr": {"proto_momentum": 0.9, "coefficient": "binary", "entropy_weight": 0.0},
    "qmf": {"rank_weight": 5.0},
    "relearning": {"every": 1},
    "remix": {"warmup_epochs": 1},
    "valuation": {"warmup_epochs": 1},
}
#: Method -> what its buffers are.
PARTS_OF_THE_MODEL = {
    **dict.fromkeys(("cca", "dcca", "dccae", "cpm_net"), "statistics and labels, set at the start"),
    **dict.fromkeys(("mla", "mla_paper", "mla_balancemm"), "projectors of the head's gradient"),
    "ensemble": "weights of the modalities, selected after each epoch",
}


def samples(seed=0):
    """Return all samples, and two batches of them."""
    whole = incomplete_batch(2, is_complete=True, seed=seed)
    for key in ("hidden", "truth"):
        del whole[key]
    return whole, [slice_batch(whole, rows) for rows in (slice(0, 6), slice(6, SIZE))]


def test_every_method_with_buffers_of_its_own_is_listed():
    found = set()
    for name in METHODS:
        module = build_method(name, samples()[0])
        buffers = {key for key, _ in module.named_buffers() if not key.startswith("encoders.")}
        if buffers and not isinstance(module, Stages):  # a stage is a part of the training
            found.add(name)
    assert found == {*REMEMBER, *PARTS_OF_THE_MODEL}


@pytest.mark.parametrize("name", REMEMBER)
def test_a_new_training_is_that_of_a_module_with_the_same_weights(name):
    (first, batches), (other, other_batches) = samples(), samples(seed=1)
    old = build_method(name, first, **REMEMBER[name])
    fit(old, batches, epochs=2, precision="64-true")
    for buffer in old.buffers():  # whatever it is that was remembered
        if buffer.is_floating_point():
            buffer.uniform_()
    fresh, loaded = (build_method(name, other, **REMEMBER[name]) for _ in range(2))
    loaded.load_state_dict(old.state_dict())
    with torch.no_grad():
        for parameter, value in zip(fresh.parameters(), old.parameters(), strict=True):
            parameter.copy_(value)
    if name == "aug":  # branches are a part of the network
        fresh.fusion.added.copy_(old.fusion.added)
    ends = [fit(module, other_batches, epochs=2, precision="64-true") for module in (fresh, loaded)]
    assert ends[0] == ends[1]
    assert torch.equal(weights(fresh), weights(loaded))
