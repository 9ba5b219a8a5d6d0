"""MMPareto against a plain loop of its formula; its switches, equivalences and refusals."""

from functools import partial

import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import Linear, batches, build, fit, weights
from torch import nn
from torch.nn.functional import cross_entropy

import mla_lightning.methods.mmpareto as rule
from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Concat, ConcatHeads
from mla_lightning.methods import JointUnimodal, MMPareto

LR = 0.05


class Deep(nn.Sequential):
    """Has several parameters, so that the lengths of tensors and of encoders differ."""

    out_features = 8

    def __init__(self):
        super().__init__(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 8))


def gradients_of(loss, parameters):
    return torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)


def plain_step(module, batch, optimizer, *, gamma, is_per_tensor):
    """One step written from the paper's algorithm, each encoder's gradients by passes of its own.

    Returns which encoders have a conflict.
    """
    y, fusion, conflicts = batch["label"], module.fusion, []
    features = {m: module.encoders[m](x) for m, x in batch["inputs"].items()}
    joint = cross_entropy(fusion.head(torch.cat([*features.values()], dim=1)), y)
    own = {m: cross_entropy(fusion.heads[m](h), y) for m, h in features.items()}
    optimizer.zero_grad()
    for parameter in fusion.parameters():
        parts = [gradients_of(loss, [parameter])[0] for loss in (joint, *own.values())]
        parameter.grad = sum(part for part in parts if part is not None)
    for m, encoder in module.encoders.items():
        parameters = [*encoder.parameters()]
        g, u = (gradients_of(loss, parameters) for loss in (joint, own[m]))
        a, b = (torch.cat([part.flatten() for part in parts]) for parts in (g, u))
        conflicts.append(bool(torch.dot(a, b) <= 0))
        c = 0.5
        if conflicts[-1]:
            c = float((b @ b - a @ b) / ((a - b) @ (a - b)))
        d = [2 * c * one + 2 * (1 - c) * other for one, other in zip(g, u, strict=True)]
        of_encoder = float((a + b).norm() / torch.cat([part.flatten() for part in d]).norm())
        for parameter, one, other, part in zip(parameters, g, u, d, strict=True):
            ratio = float((one + other).norm() / part.norm()) if is_per_tensor else of_encoder
            parameter.grad = gamma * part * max(1.0, ratio)
    optimizer.step()
    return conflicts


def with_conflicts(module):
    """Turn the joint head's columns of the first modality against its own head."""
    fusion = module.fusion
    first = module.modalities[0]
    with torch.no_grad():
        fusion.columns(fusion.head.weight)[first].copy_(-fusion.heads[first].weight)
    return module


@pytest.mark.parametrize(
    ("settings", "gamma", "is_per_tensor"),
    [({}, 1.5, True), ({"rescale": "encoder", "gamma": 1.2}, 1.2, False)],
)
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_mmpareto_is_its_formula(num_modalities, settings, gamma, is_per_tensor):
    data = [incomplete_batch(num_modalities, is_complete=True, seed=s) for s in range(3)]

    def built():
        torch.manual_seed(3)
        encoders = {m: Deep() for m in data[0]["inputs"]}
        return with_conflicts(build_method("mmpareto", data[0], encoders=encoders, **settings))

    ours, plain = built(), built().double()
    fit(ours, data, precision="64-true")
    optimizer, conflicts = torch.optim.SGD(plain.parameters(), lr=LR), []
    for batch in data:
        conflicts += plain_step(plain, batch, optimizer, gamma=gamma, is_per_tensor=is_per_tensor)
    assert set(conflicts) == {True, False}
    torch.testing.assert_close(weights(ours), weights(plain), rtol=1e-8, atol=1e-10)


class Scaled(JointUnimodal):
    """Joint and unimodal losses, with encoder gradients multiplied by a factor."""

    factor = 1.0

    def step_on(self, batch, losses_of, *, edit_grads=None):
        def scale():
            for parameter in self.encoders.parameters():
                parameter.grad.mul_(self.factor)

        return super().step_on(batch, losses_of, edit_grads=scale)


@pytest.mark.parametrize("rescale", ["tensor", "encoder"])
@pytest.mark.parametrize("gamma", [1.0, 1.5])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_without_conflicts_mmpareto_is_joint_unimodal(num_modalities, gamma, rescale, monkeypatch):
    data, is_plain = batches(1, num_modalities), []

    def without_conflict(module):
        fusion = module.fusion
        with torch.no_grad():
            for m, columns in fusion.columns(fusion.head.weight).items():
                columns.copy_(fusion.heads[m].weight)
        return module

    original = rule.pareto_gradients

    def recorded(total, unimodal, *args, **options):
        g = [s - u for s, u in zip(total, unimodal, strict=True)]
        is_plain.append(sum(float((a * b).sum()) for a, b in zip(g, unimodal, strict=True)) > 0)
        return original(total, unimodal, *args, **options)

    monkeypatch.setattr(rule, "pareto_gradients", recorded)
    ours = without_conflict(build(MMPareto, ConcatHeads, data, gamma=gamma, rescale=rescale))
    other = without_conflict(build(Scaled, ConcatHeads, data))
    other.factor = gamma
    assert fit(ours, data, epochs=3) == fit(other, data, epochs=3)
    assert all(is_plain)
    assert len(is_plain) == 3 * num_modalities
    assert torch.equal(weights(ours), weights(other))


@pytest.mark.parametrize("settings", [{"gamma": 1.0}, {"rescale": "encoder"}])
def test_every_setting_of_mmpareto_changes_the_weights(settings):
    data, found = batches(2), []
    for options in ({}, settings):
        module = with_conflicts(build(MMPareto, ConcatHeads, data, **options))
        fit(module, data)
        found.append(weights(module))
    assert not torch.equal(*found)


def test_frozen_encoders_are_left_alone():
    def half_frozen():
        encoder = Linear()
        encoder[0].bias.requires_grad_(False)
        return encoder

    data = batches(2)
    module = build(MMPareto, ConcatHeads, data, encoder=half_frozen)
    before = module.encoders["audio"][0].bias.clone()
    fit(module, data)
    assert torch.equal(module.encoders["audio"][0].bias, before)
    with pytest.raises(ConfigError, match=r"No encoder has a parameter.*method=joint_unimodal"):
        build(MMPareto, ConcatHeads, data, encoder=lambda: Linear().requires_grad_(False))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 0.0}, r"gamma must be > 0, got 0.0; 1 restores the length only"),
        ({"rescale": "tensors"}, r"rescale='tensors' is unknown.*Did you mean 'tensor'"),
    ],
)
def test_mmpareto_refuses(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(MMPareto, ConcatHeads, batches(1), **settings)


def test_mmpareto_needs_own_heads_and_encoders():
    with pytest.raises(ConfigError, match=r"MMPareto needs a head of its own.*=concat_heads"):
        build(MMPareto, Concat, batches(1))
    encoders = dict.fromkeys(("audio", "visual"), nn.Linear(5, 6))
    sgd = partial(torch.optim.SGD, lr=0.1)
    with pytest.raises(ConfigError, match=r"'audio' and 'visual' share parameters"):
        MMPareto(encoders=encoders, num_classes=4, optimizer=sgd)
