"""OPM: its formula step by step, joint training as its limit, and its switches."""

import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import batches, build, fit, weights
from torch.nn.functional import cross_entropy

from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Concat, Sum
from mla_lightning.methods.joint import Joint
from mla_lightning.methods.opm import OPM
from mla_lightning.randomness import derive_seed


def trained(*, epochs=2, **options):
    data = batches(3)
    module = build(OPM, Concat, data, **options)
    fit(module, data, epochs=epochs)
    return weights(module)


@pytest.mark.parametrize("ogm_alpha", [None, 0.4])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_three_steps_are_a_plain_loop(num_modalities, ogm_alpha):
    batch, y = incomplete_batch(num_modalities, is_complete=True), None
    settings = {"q_base": 0.4, "strength": 0.6, "p_exe": 0.7, "start_epoch": 1}
    ours = build_method("opm", batch, ogm_alpha=ogm_alpha, seed=1, **settings)
    plain = build_method("opm", batch).double()
    fit(ours, [batch], epochs=6, precision="64-true")
    head, y, num_executed, num_dropped = plain.fusion.head, batch["label"], 0, 0
    for epoch in range(6):
        columns = head.weight.split(8, dim=1)
        features = [batch["inputs"][m] @ e.weight.T + e.bias for m, e in plain.encoders.items()]
        own = [h @ w.T + head.bias / num_modalities for h, w in zip(features, columns, strict=True)]
        s = [float(z.softmax(dim=1)[range(len(y)), y].sum().detach()) for z in own]
        ratios = [score / ((sum(s) - score) / (num_modalities - 1)) for score in s]
        q = [0.4 * (1 + 0.6 * torch.tensor(r - 1).tanh()) if r > 1 else 0.0 for r in ratios]
        rng = torch.Generator().manual_seed(derive_seed(1, "opm", epoch, 0))
        draws = torch.rand(1 + len(y), num_modalities, generator=rng)
        if epoch >= 1 and float(draws[0, 0]) < 0.7:
            draws = draws[1:]
            theta = sum(q) / num_modalities  # all features have one width
            kept = [draws[:, m] >= q[m] for m in range(num_modalities)]
            features = [h * k[:, None] / (1 - theta) for h, k in zip(features, kept, strict=True)]
            num_executed += 1
            num_dropped += sum(int((~k).sum()) for k in kept)
            assert bool(torch.stack(kept).any(dim=0).all())
        fused = sum(h @ w.T for h, w in zip(features, columns, strict=True)) + head.bias
        parameters = [*plain.parameters()]
        gradients = torch.autograd.grad(cross_entropy(fused, y), parameters)
        factors = {id(p): 1.0 for p in parameters}
        if epoch >= 1 and ogm_alpha:
            for encoder, r in zip(plain.encoders.values(), ratios, strict=True):
                for p in encoder.parameters():
                    factors[id(p)] = float(1 - torch.tensor(0.4 * r).tanh()) if r > 1 else 1.0
        with torch.no_grad():
            for p, gradient in zip(parameters, gradients, strict=True):
                p -= 0.05 * factors[id(p)] * gradient
    assert 0 < num_executed < 5
    assert num_dropped > 0
    for key, value in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(key), value, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("fusion", [Concat, Sum])
@pytest.mark.parametrize("options", [{"p_exe": 0.0}, {"q_base": 0.0}, {"start_epoch": 1}])
def test_without_drops_it_is_joint_training(options, fusion):
    epochs = options.get("start_epoch", 2)
    data = batches(3)
    modules = [
        build(OPM, fusion, data, **{"start_epoch": 0} | options),
        build(Joint, fusion, data),
    ]
    if "start_epoch" in options:
        modules[0].on_train_start = lambda: None  # its window is never reached
    for module in modules:
        fit(module, data, epochs=epochs)
    assert torch.equal(*map(weights, modules))


@pytest.mark.parametrize(
    "options",
    [
        {"q_base": 0.9},
        {"strength": 3.0},
        {"p_exe": 0.0},
        {"start_epoch": 1},
        {"ogm_alpha": 0.5},
        {"parts": {"seed": 1}},
    ],
)
def test_every_setting_changes_the_training(options):
    usual = {"start_epoch": 0, "p_exe": 1.0}
    assert not torch.equal(trained(**usual), trained(**usual | options))


def test_training_does_not_depend_on_the_global_generator(monkeypatch):
    usual = {"start_epoch": 0, "p_exe": 1.0}
    expected = trained(**usual)
    original = OPM.fit_batch

    def disturbed(self, batch):
        torch.rand(7)
        return original(self, batch)

    monkeypatch.setattr(OPM, "fit_batch", disturbed)
    assert torch.equal(trained(**usual), expected)


def test_a_whole_feature_is_dropped_also_of_a_sequence():
    module = build(OPM, Concat, batches(1))
    features = {"audio": torch.ones(4, 3, 6), "visual": torch.ones(4, 6)}
    draws = torch.tensor([[0.1, 0.0], [0.9, 0.0], [0.1, 0.9], [0.5, 0.5]])
    kept = module.drop(features, torch.tensor([0.5, 0.0]), draws)
    scale = 1 / (1 - 0.25)
    assert kept["audio"][:, 0, 0].tolist() == pytest.approx([0.0, scale, 0.0, scale])
    assert kept["visual"].unique().tolist() == pytest.approx([scale])


@pytest.mark.parametrize(
    ("widths", "q", "factor"),
    [
        ((2, 6), (0.5, 0.0), 1 / (1 - 2 * 0.5 / 8)),
        ((512, 256, 128), (0.690399, 0.0, 0.0), 1.651564),
    ],
)
def test_wide_features_count_more_in_the_factor(widths, q, factor):
    names = ["audio", "visual", "text"][: len(widths)]
    fusion = Concat(dict(zip(names, widths, strict=True)), 2)
    encoders = {m: torch.nn.Linear(5, d) for m, d in fusion.feature_dims.items()}
    module = OPM(encoders=encoders, num_classes=2, optimizer=torch.optim.SGD)
    features = {m: torch.ones(2, d) for m, d in fusion.feature_dims.items()}
    draws = torch.tensor([[0.1] * len(widths), [0.9] * len(widths)])
    kept = module.drop(features, torch.tensor(q), draws)
    assert [float(h[0, 0]) for h in kept.values()] == pytest.approx(
        [0.0] + [factor] * (len(widths) - 1), abs=1e-5
    )
    assert [float(h[1, 0]) for h in kept.values()] == pytest.approx(
        [factor] * len(widths), abs=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"q_base": -0.1}, r"method.q_base must be in \[0, 1\]"),
        ({"p_exe": 1.1}, r"method.p_exe must be in \[0, 1\]"),
        ({"strength": -1.0}, "method.strength must be >= 0"),
        ({"ogm_alpha": 0.0}, "or null for none"),
        ({"start_epoch": -1}, "method.start_epoch must be >= 0"),
        ({"parts": {"accumulate": 2}}, "cannot be computed in chunks"),
        ({"parts": {"is_complete": False}}, "no rule for samples with missing modalities"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(OPM, Concat, batches(1), **options)


def test_a_start_that_is_never_reached_is_refused():
    with pytest.raises(ConfigError, match="never reached"):
        trained(start_epoch=2)
