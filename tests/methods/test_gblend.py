"""G-Blend: weights estimated by training on trial, which changes nothing else."""

import copy

import pytest
import torch
from tests.methods.harness import NUM_CLASSES, Loader, batches, build, fit, weights
from torch import nn
from torch.nn.functional import cross_entropy

from mla_lightning.config import compose_jobs
from mla_lightning.data.synthetic import Synthetic
from mla_lightning.errors import ConfigError, DataError
from mla_lightning.fusion import Concat, ConcatHeads, LateFusion
from mla_lightning.methods import GBlend, JointUnimodal
from mla_lightning.run.build import build_data, build_module


def learnable(number, num_modalities=2, seed=0):
    """Batches in which the label is the largest of the first numbers of the sum of all inputs."""
    data = batches(number, num_modalities, seed=seed)
    for batch in data:
        batch["label"] = sum(batch["inputs"].values())[:, :NUM_CLASSES].argmax(dim=1)
    return data


def build_gblend(data, fusion=ConcatHeads, parts=None, lr=0.1, **options):
    held_out = learnable(4, len(data[0]["inputs"]), seed=5)
    given = {"train_batches": lambda: Loader(data), "held_out_batches": lambda: Loader(held_out)}
    return build(GBlend, fusion, data, parts=given | (parts or {}), lr=lr, **options)


def branch_logits(encoders, fusion, batch):
    """Own logits of each modality, and the fused ones."""
    h = {m: encoders[m](batch["inputs"][m]) for m in encoders}
    own = [h[m] @ fusion.heads[m].weight.T + fusion.heads[m].bias for m in h]
    return [*own, torch.cat([*h.values()], dim=1) @ fusion.head.weight.T + fusion.head.bias]


def mean_losses(encoders, fusion, data):
    with torch.no_grad():
        logits = [branch_logits(encoders, fusion, batch) for batch in data]
    label = torch.cat([batch["label"] for batch in data])
    return [float(cross_entropy(torch.cat(z), label)) for z in zip(*logits, strict=True)]


def expected_weights(module, data, num_epochs):
    """Estimate the weights by a copy of the whole network for each branch."""
    held_out = list(module.parts.held_out_batches())
    before = [mean_losses(module.encoders, module.fusion, part) for part in (data, held_out)]
    raw = []
    for branch in range(len(module.modalities) + 1):
        encoders, fusion = copy.deepcopy(module.encoders), copy.deepcopy(module.fusion)
        parameters = [*encoders.parameters(), *fusion.parameters()]
        sgd = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-2)
        for _ in range(num_epochs):
            for batch in data:
                sgd.zero_grad()
                cross_entropy(
                    branch_logits(encoders, fusion, batch)[branch], batch["label"]
                ).backward()
                sgd.step()
        train, new = (mean_losses(encoders, fusion, part)[branch] for part in (data, held_out))
        gain = before[1][branch] - new
        overfitting = (new - train) - (before[1][branch] - before[0][branch])
        raw.append(max(gain, 0) / (overfitting**2 + 1e-8))
    total = sum(raw)
    return [r / total for r in raw] if total else [1 / len(raw)] * len(raw)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_three_steps_are_those_of_a_plain_loop(num_modalities):
    data = learnable(3, num_modalities)
    module = build_gblend(data, lookahead_epochs=2)
    plain = copy.deepcopy(module)
    expected = expected_weights(plain, data, num_epochs=2)
    losses = fit(module, data)
    assert module.weights.tolist() == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert len(set(expected)) > 1
    parameters = [*plain.encoders.parameters(), *plain.fusion.parameters()]
    sgd = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-2)
    for batch, reported in zip(data, losses, strict=True):
        sgd.zero_grad()
        parts = [
            weight * cross_entropy(z, batch["label"])
            for weight, z in zip(
                module.weights, branch_logits(plain.encoders, plain.fusion, batch), strict=True
            )
        ]
        sum(parts).backward()
        sgd.step()
        assert [*reported] == [*module.modalities, "joint"]
        assert [*reported.values()] == pytest.approx([p.item() for p in parts], rel=1e-5)
    torch.testing.assert_close(weights(module), weights(plain), rtol=1e-5, atol=1e-6)


class Normalised(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.3))
        self.out_features = 6


def test_training_on_trial_changes_nothing_but_the_weights(monkeypatch):
    """With dropout and batch statistics, a run with fixed weights is the same bit for bit."""
    data = batches(3)
    ends, looked = [], []
    for looks in (True, False):
        module = build_gblend(data, lookahead_epochs=2, super_epoch=1, encoder=Normalised)
        look_ahead = GBlend._look_ahead

        def recorded(self, looks=looks, look_ahead=look_ahead):
            state = {k: v.clone() for k, v in self.state_dict().items()}
            generator = torch.get_rng_state()
            modes = [m.training for m in self.modules()]
            if looks:
                looked.append(look_ahead(self))
            assert all(torch.equal(v, state[k]) for k, v in self.state_dict().items())
            assert torch.equal(generator, torch.get_rng_state())
            assert modes == [m.training for m in self.modules()]
            assert all(p.grad is None for p in self.parameters()) or not looks
            return torch.tensor([0.2, 0.3, 0.5])

        with monkeypatch.context() as patch:
            patch.setattr(GBlend, "_look_ahead", recorded)
            fit(module, data, epochs=2)
        ends.append(module.state_dict())
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])
    assert len(looked) == 2
    assert not torch.equal(*looked)


def test_equal_weights_are_joint_unimodal_with_a_smaller_rate(monkeypatch):
    monkeypatch.setattr(GBlend, "_look_ahead", lambda self: torch.full((3,), 1 / 3))
    data = batches(3)
    plain = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.3)}
    module = build_gblend(data, parts=plain)
    third = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1)}
    other = build(JointUnimodal, ConcatHeads, data, parts=third)
    fit(module, data, epochs=2)
    fit(other, data, epochs=2)
    torch.testing.assert_close(weights(module), weights(other), rtol=1e-5, atol=1e-6)


def estimated_in(monkeypatch, epochs, **options):
    """Return the epochs in which weights are estimated by looking ahead."""
    seen = []

    def recorded(self):
        seen.append(self.current_epoch)
        return torch.full((3,), 1 / 3)

    monkeypatch.setattr(GBlend, "_look_ahead", recorded)
    data = batches(1)
    fit(build_gblend(data, **options), data, epochs=epochs)
    return seen


def test_online_estimates_every_super_epoch_and_offline_once(monkeypatch):
    assert estimated_in(monkeypatch, 5, super_epoch=2, lookahead_epochs=2) == [0, 2, 4]
    assert estimated_in(monkeypatch, 5, mode="offline") == [0]


def test_consecutive_compares_the_last_two_epochs():
    data = learnable(3)
    module = build_gblend(data, estimate="consecutive", super_epoch=2)
    seen = []
    original = module.prepare_epoch

    def recorded():
        original()
        seen.append((module._mean_losses(), module.weights.clone()))

    module.prepare_epoch = recorded
    fit(module, data, epochs=4)
    losses, weights_of = zip(*seen, strict=True)
    equal = torch.full((3,), 1 / 3)
    assert torch.equal(weights_of[0], equal)
    assert torch.equal(weights_of[1], equal)
    expected = GBlend._weights_of(losses[1], losses[2])
    torch.testing.assert_close(weights_of[2], expected)
    assert torch.equal(weights_of[3], weights_of[2])
    assert not torch.equal(expected, equal)


def test_the_present_rate_is_that_on_trial():
    rates = []

    class Recorded(torch.optim.SGD):
        def step(self, closure=None):
            rates.append((id(self), self.param_groups[0]["lr"]))
            return super().step(closure)

    data = batches(1)
    parts = {
        "optimizer": lambda parameters: Recorded(parameters, lr=0.1),
        "scheduler": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5),
    }
    fit(build_gblend(data, parts=parts, lookahead_epochs=1, super_epoch=1), data, epochs=2)
    assert [rate for _, rate in rates] == [0.1] * 3 + [0.05] * 3


def test_batches_on_trial_are_those_of_the_coming_epochs():
    data = Synthetic(batch_size=16, num_train=64, names=["audio", "visual"])
    loader = data.train_dataloader()
    ahead = [batch["index"].tolist() for epoch in (0, 1) for batch in loader.batches_of(epoch)]
    assert loader.state_dict()["batch"] == 0
    assert loader.state_dict()["epoch"] == 0
    coming = [batch["index"].tolist() for _ in range(2) for batch in loader]
    assert ahead == coming


def test_clipping_bounds_each_branch_on_trial():
    data = batches(2)
    free, bounded = (
        build_gblend(data, parts={"clip_norm": norm}, lookahead_epochs=2) for norm in (None, 1e-3)
    )
    fit(free, data)
    fit(bounded, data)
    assert not torch.allclose(free.weights, bounded.weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "onlin"}, "method.mode='onlin' is unknown. Did you mean 'online'"),
        ({"estimate": "x"}, "method.estimate='x' is unknown"),
        ({"super_epoch": 0}, "method.super_epoch must be at least 1"),
        ({"lookahead_epochs": 0}, "method.lookahead_epochs must be at least 1"),
        ({"mode": "offline", "estimate": "consecutive"}, "no earlier epochs to compare"),
        ({"mode": "offline", "super_epoch": 3}, "super_epoch=3 has no effect with method.mode=off"),
        ({"estimate": "consecutive", "lookahead_epochs": 5}, "lookahead_epochs=5 has no effect"),
        ({"fusion": Concat}, r"Use fusion@method\.fusion=concat_heads"),
        ({"parts": {"held_out_batches": None}}, r"Set data\.held_out=0\.1"),
        ({"parts": {"train_batches": None}}, "give train_batches"),
    ],
)
def test_wrong_settings_say_what_to_use(options, message):
    with pytest.raises(ConfigError, match=message):
        build_gblend(batches(1), **options)


def test_an_estimate_that_never_comes_is_an_error():
    data = batches(1)
    with pytest.raises(ConfigError, match=r"super_epoch=10.*max_epochs=1"):
        fit(build_gblend(data, estimate="consecutive"), data)


def test_overlapping_trials_are_noted():
    assert not build_gblend(batches(1)).notes
    once = build_gblend(batches(1), super_epoch=2, lookahead_epochs=1)
    fit(once, batches(1), epochs=2)
    assert "estimates its weights once" in next(iter(once.notes))
    often = build_gblend(batches(1), super_epoch=1, lookahead_epochs=1)
    fit(often, batches(1), epochs=2)
    assert not often.notes
    assert "overlap" in next(iter(build_gblend(batches(1), super_epoch=5).notes))
    build_gblend(batches(1), fusion=LateFusion)  # has own heads, too


def test_too_few_held_out_samples_are_an_error_with_the_fraction_to_set():
    words = ["data=synthetic", "method=gblend", "data.num_train=256"]
    (job,) = compose_jobs(words)
    assert job.config.data["held_out"] == 0.25
    with pytest.raises(DataError, match=r"at least 80 samples.*are 64\. Set data\.held_out=0\.35"):
        build_module(job.config, build_data(job.config))
    (job,) = compose_jobs([*words, "data.held_out=0.35"])
    assert build_module(job.config, build_data(job.config)).min_held_out_per_class == 20
    (job,) = compose_jobs([*words[:2], "data.num_train=60"])
    with pytest.raises(DataError, match="Use more data"):
        build_module(job.config, build_data(job.config))
