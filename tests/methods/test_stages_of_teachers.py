"""The second stage begins with a copy of the networks and without past gradients."""

from functools import partial

import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import fit

NETWORKS = {"mmin": (), "if_mmin": ("shared",), "tate": ("fusion",)}


@pytest.mark.filterwarnings("ignore:.*in eval mode")
@pytest.mark.parametrize("name", NETWORKS)
def test_the_teacher_is_the_first_stages_last_state(name):
    batch = incomplete_batch(2)
    momentum = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
    module = build_method(name, batch, optimizer=momentum)
    states, past_gradients = [], []
    original = module.fit_batch

    def noting(batch):
        states.append({key: value.clone() for key, value in module.state_dict().items()})
        past_gradients.append(len(module.trainer.optimizers[0].state))
        return original(batch)

    module.fit_batch = noting
    fit(module, [batch, batch], epochs=3, precision="64-true")
    first, second = states[:2], states[2:]
    assert [bool(state["is_taught"]) for state in states] == [False] * 2 + [True] * 4
    assert past_gradients[0] == 0 < past_gradients[1]
    assert past_gradients[2] == 0 < min(past_gradients[3:])
    copied = [key for key in first[0] if key.startswith("teacher.")]
    assert copied
    changed = []
    for key in copied:
        network, _, weight = key.removeprefix("teacher.").partition(".")
        student = {"encoders": "encoders", "fusion": "fusion"}.get(network, f"fusion.{network}")
        assert torch.equal(second[0][key], second[0][f"{student}.{weight}"])
        assert all(torch.equal(state[key], second[0][key]) for state in second)
        changed.append(not torch.equal(second[0][key], first[0][f"{student}.{weight}"]))
    assert any(changed)
    networks = {key.removeprefix("teacher.").partition(".")[0] for key in copied}
    assert networks == {"encoders", *NETWORKS[name]}
