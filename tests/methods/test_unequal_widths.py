"""Methods that balance modalities train encoders of unequal widths, whatever their order."""

import pytest
import torch
from tests.methods.catalogue import SIZE, build_method, incomplete_batch
from tests.methods.harness import NUM_CLASSES, fit
from torch import nn

from mla_lightning.batch import slice_batch
from mla_lightning.fusion.concat import Concat

WIDTHS = {"audio": 2, "visual": 6, "text": 3}
METHODS = {
    "agm": {},
    "dgl": {},
    "gblend": {"estimate": "consecutive", "super_epoch": 1, "lookahead_epochs": 10},
    "inforeg": {},
    "mmcosine": {},
    "mmpareto": {},
    "opm": {"p_exe": 1.0, "ogm_alpha": 0.5},
    "pmr": {"normalise": True},
    "reconboost": {},
    "relearning": {"every": 1},
    "valuation": {"warmup_epochs": 1},
}
#: What these do depends on the order: random numbers by position, turns, and the order of rows.
ORDERED = ("opm", "reconboost", "valuation")


def built(name, order):
    """Build a method for modalities in an order; the weights do not depend on it."""
    whole = incomplete_batch(3, is_complete=True)
    for key in ("hidden", "truth"):
        del whole[key]
    for key in ("inputs", "present"):
        whole[key] = {m: whole[key][m] for m in order}
    encoders = {m: nn.Linear(5, WIDTHS[m]) for m in order}
    module = build_method(name, whole, encoders=encoders, **METHODS[name])
    rng = torch.Generator().manual_seed(0)
    columns = {m: torch.randn(NUM_CLASSES, d, generator=rng) for m, d in WIDTHS.items()}
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=rng))
        if isinstance(module.fusion, Concat):
            module.fusion.head.weight.copy_(torch.cat([columns[m] for m in order], dim=1))
    return module, [slice_batch(whole, rows) for rows in (slice(0, 6), slice(6, SIZE))]


def trained(name, order):
    """Train; return the parameters, with a joint head's columns by modality, before and after."""
    module, data = built(name, order)
    states = []
    for epochs in (0, 7 if name == "reconboost" else 3):  # of the teachers, and of three turns
        if epochs:
            fit(module, data, epochs=epochs, precision="64-true")
        state = {key: p.detach().double().clone() for key, p in module.named_parameters()}
        if isinstance(module.fusion, Concat):
            head = state.pop("fusion.head.weight")
            state |= {f"columns.{m}": x for m, x in module.fusion.columns(head).items()}
        states.append(state)
    return states


@pytest.mark.filterwarnings("ignore:.*in eval mode")
@pytest.mark.parametrize("name", METHODS)
def test_encoders_of_unequal_widths_are_trained(name):
    before, after = trained(name, ("audio", "visual", "text"))
    for key, value in after.items():
        assert bool(value.isfinite().all()), key
        is_moved = not torch.equal(value, before[key])
        assert is_moved or key.startswith("teachers."), key
    if name in ORDERED:
        return
    turned = trained(name, ("text", "audio", "visual"))
    for one, other in zip((before, after), turned, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            torch.testing.assert_close(other[key], value, rtol=1e-6, atol=1e-9)
