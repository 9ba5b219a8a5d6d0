"""Rules that change encoders also change the adapters of a shared head."""

from functools import partial

import pytest
import torch
from tests.methods.harness import Linear, Loader, batches, build, fit

from mla_lightning.fusion import Concat, SharedHead
from mla_lightning.methods import OGMGE, OPM, InfoReg, Relearning
from mla_lightning.methods.mechanisms.encoder_gradients import encoders_with_adapters

ADAPTED = partial(SharedHead, dim=4)
PARTS = {"optimizer": partial(torch.optim.SGD, lr=0.1)}


def states(module):
    return {key: p.detach().clone() for key, p in module.named_parameters()}


def test_a_modality_without_an_adapter_has_its_encoder_alone():
    module = build(OPM, partial(SharedHead, dim=6), batches(1))
    found = encoders_with_adapters(module.encoders, module.fusion)
    assert [len(modules) for modules in found.values()] == [1, 1]
    module = build(OPM, Concat, batches(1))
    assert len(encoders_with_adapters(module.encoders, module.fusion)["audio"]) == 1


@pytest.mark.parametrize(
    ("method", "options", "place"),
    [
        (OGMGE, {"noise": False}, "ogm_ge"),
        (OPM, {"ogm_alpha": 0.5, "start_epoch": 0, "q_base": 0.0}, "opm"),
    ],
)
def test_ogm_modulates_the_adapter_with_its_encoder(method, options, place, monkeypatch):
    name = f"mla_lightning.methods.{place}.ogm_coefficients"
    monkeypatch.setattr(name, lambda scores, alpha: torch.tensor([0.0, 1.0]))
    data = batches(2)
    module = build(method, ADAPTED, data, parts=PARTS, **options)
    before = states(module)
    fit(module, data)
    moved = {key for key, p in module.named_parameters() if not torch.equal(p, before[key])}
    rests = {key for key in before if key.startswith(("encoders.audio", "fusion.adapters.audio"))}
    assert len(rests) == 4
    assert moved == before.keys() - rests


def test_inforeg_measures_and_pulls_the_adapter_with_its_encoder():
    module = build(InfoReg, ADAPTED, batches(1))
    adapter, encoder = module.fusion.adapters["audio"], module.encoders["audio"][0]
    assert module.measured["audio"] == [encoder.weight, adapter.weight]
    with torch.no_grad():
        adapter.weight += 1.0
    adapter.weight.grad = torch.zeros_like(adapter.weight)
    module._pull_back("audio", 2.0)
    torch.testing.assert_close(adapter.weight.grad, torch.full_like(adapter.weight, 2.0))


def test_a_full_pull_restarts_adapters_as_encoders(monkeypatch):
    rule = "mla_lightning.methods.relearning.relearning_weights"
    monkeypatch.setattr(rule, lambda gaps, strength: torch.ones_like(gaps))
    data = batches(2)
    parts = {"train_batches": lambda: Loader(data), "held_out_batches": lambda: Loader(data)}
    encoder = partial(Linear, 5)
    module = build(Relearning, ADAPTED, data, parts=parts, encoder=encoder, every=1)
    before, seen, original = states(module), [], module.prepare_epoch

    def recorded():
        original()
        seen.append(states(module))

    module.prepare_epoch = recorded
    fit(module, data, epochs=2)
    for key, start in before.items():
        is_pulled = key.startswith(("encoders.", "fusion.adapters."))
        assert torch.equal(seen[1][key], start) == is_pulled, key
