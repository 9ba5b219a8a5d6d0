"""AGM: its formula step by step, its gradients on Concat, joint training as its limit."""

import itertools

import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import WIDTH, Linear, batches, build, fit, weights
from torch import nn
from torch.nn.functional import cross_entropy

from mla_lightning.errors import ConfigError
from mla_lightning.fusion import BiGated, Concat, Sum
from mla_lightning.methods.agm import AGM
from mla_lightning.methods.joint import Joint
from mla_lightning.tasks import Regression


class Normed(nn.Sequential):
    """Has batch statistics and dropout, which differ between the modes."""

    out_features = WIDTH

    def __init__(self, dropout=0.5):
        super().__init__(nn.Linear(5, WIDTH), nn.BatchNorm1d(WIDTH), nn.Tanh(), nn.Dropout(dropout))


class Recorded(AGM):
    """Keeps its coefficients, and the gradients before they are clipped."""

    def _next_coefficients(self, phi_MBC, batch):
        self.kappa = super()._next_coefficients(phi_MBC, batch)
        return self.kappa

    def on_before_optimizer_step(self, optimizer):
        self.raw = {key: p.grad.clone() for key, p in self.named_parameters()}
        super().on_before_optimizer_step(optimizer)
        self.grads = {key: p.grad.clone() for key, p in self.named_parameters()}


def trained(fusion=Concat, *, num_modalities=2, epochs=2, encoder=Linear, **options):
    data = batches(3, num_modalities)
    module = build(AGM, fusion, data, encoder=encoder, **options)
    fit(module, data, epochs=epochs)
    return weights(module)


def values_by_orders(values, num_modalities):
    """Compute Shapley values as the mean gain over all orders of the modalities."""
    orders = [*itertools.permutations(range(num_modalities))]
    parts = [0.0] * num_modalities
    for order in orders:
        for place, m in enumerate(order):
            gain = values[frozenset(order[: place + 1])] - values[frozenset(order[:place])]
            parts[m] = parts[m] + gain / len(orders)
    return parts


@pytest.mark.parametrize("sign", ["paper", "balancemm"])
@pytest.mark.parametrize("absent", ["feature", "input"])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_steps_are_a_plain_loop(num_modalities, absent, sign):
    """On a gated fusion, whose logits are no sum of parts of the modalities."""
    batch = incomplete_batch(num_modalities, is_complete=True)
    settings = {"alpha": 0.7, "start_epoch": 1, "end_epoch": 2, "head_clip": 0.02}
    names, y = [*batch["inputs"]], batch["label"]
    fusion = {"_target_": "mla_lightning.fusion.bigated.BiGated", "_partial_": True}

    def make(double=False, **options):
        torch.manual_seed(3)
        encoders = {name: Normed(0.0) for name in names}
        module = build_method("agm", batch, encoders=encoders, fusion=fusion, **options)
        return module.double() if double else module

    ours = make(absent=absent, sign=sign, **settings)
    plain = make(double=True)
    fit(ours, [batch], epochs=4, precision="64-true")
    tau, flip, num_clipped = torch.zeros(num_modalities).double(), -1 if sign != "paper" else 1, 0
    for epoch in range(4):
        plain.zero_grad()
        whole = plain.fusion({m: plain.encoders[m](batch["inputs"][m]) for m in names})
        values = {frozenset(): torch.zeros_like(whole), frozenset(range(num_modalities)): whole}
        plain.train(absent == "feature")
        for subset in itertools.chain.from_iterable(
            itertools.combinations(range(num_modalities), k) for k in range(1, num_modalities)
        ):
            inputs = {m: batch["inputs"][m] for m in names}
            if absent == "input":
                for i, m in enumerate(names):
                    inputs[m] = inputs[m] if i in subset else torch.zeros_like(inputs[m])
            features = {m: plain.encoders[m](inputs[m]) for m in names}
            if absent == "feature":
                for i, m in enumerate(names):
                    features[m] = features[m] if i in subset else torch.zeros_like(features[m])
            values[frozenset(subset)] = plain.fusion(features)
        plain.train()
        parts = values_by_orders(values, num_modalities)
        p = [phi.softmax(dim=1)[range(len(y)), y].clamp(min=1e-8) for phi in parts]
        sigma = torch.stack([-x.log().mean() for x in p]).detach()
        others = lambda x, m: (x.sum() - x[m]) / (num_modalities - 1)  # noqa: E731
        kappa = [
            (
                0.7
                * min(
                    (flip * (others(tau, m) - tau[m])).exp()
                    - (flip * (others(sigma, m) - sigma[m])).exp(),
                    10,
                )
            ).exp()
            for m in range(num_modalities)
        ]
        tau = tau * epoch / (epoch + 1) + sigma / (epoch + 1)
        if epoch in (1, 2):
            parts = [k * phi + (1 - k) * phi.detach() for k, phi in zip(kappa, parts, strict=True)]
        logits = sum(parts) if epoch < 3 else whole
        cross_entropy(logits, y).backward()
        largest = max(float(w.grad.abs().max()) for w in plain.fusion.parameters() if w.dim() == 2)
        if largest > 0.02:
            nn.utils.clip_grad_norm_(plain.parameters(), 0.02)
            num_clipped += 1
        with torch.no_grad():
            for parameter in plain.parameters():
                parameter -= 0.05 * parameter.grad
    assert num_clipped > 0
    for key, value in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(key), value, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_on_concat_gradients_are_those_of_joint_training_times_the_coefficients(num_modalities):
    data = batches(1, num_modalities)
    ours = build(Recorded, Concat, data, head_clip=None)
    plain = build(Joint, Concat, data)
    features = plain.features(data[0])
    slices = plain.fusion.unimodal(features)
    phi = ours.logits(features, data[0]["present"])
    for name in ours.modalities:
        torch.testing.assert_close(phi[name], slices[name])
    cross_entropy(plain.fusion(features), data[0]["label"]).backward()
    fit(ours, data)
    assert len(set(ours.kappa.tolist())) == num_modalities
    head = plain.fusion.head
    columns = head.weight.grad.split(WIDTH, dim=1)
    expected = torch.cat([k * c for k, c in zip(ours.kappa, columns, strict=True)], dim=1)
    torch.testing.assert_close(ours.raw["fusion.head.weight"], expected)
    torch.testing.assert_close(ours.raw["fusion.head.bias"], ours.kappa.mean() * head.bias.grad)
    for k, (name, encoder) in zip(ours.kappa, plain.encoders.items(), strict=True):
        for key, parameter in encoder.named_parameters():
            torch.testing.assert_close(ours.raw[f"encoders.{name}.{key}"], k * parameter.grad)


@pytest.mark.parametrize("fusion", [Concat, Sum, BiGated])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_with_a_strength_of_zero_it_is_joint_training(fusion, num_modalities):
    data = batches(3, num_modalities)
    modules = [
        build(AGM, fusion, data, alpha=0.0, head_clip=None),
        build(Joint, fusion, data),
    ]
    for module in modules:
        fit(module, data, epochs=2)
    torch.testing.assert_close(*map(weights, modules), rtol=1e-4, atol=1e-6)


def test_after_the_window_it_is_joint_training_bit_for_bit():
    data = batches(3)
    ours, joint = build(AGM, Concat, data, end_epoch=0, head_clip=None), build(Joint, Concat, data)

    class Later:
        """A window that is over."""

        end_epoch = -1

        def check_reached(self, num_epochs):
            pass

    ours.window = Later()
    for module in (ours, joint):
        fit(module, data, epochs=2)
    assert torch.equal(weights(ours), weights(joint))
    assert int(ours.num_batches) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 2.0},
        {"start_epoch": 1},
        {"end_epoch": 0},
        {"absent": "input"},
        {"head_clip": 0.01},
        {"sign": "balancemm"},
    ],
)
def test_every_setting_changes_the_training(options):
    usual = {"head_clip": None, "encoder": Normed}
    assert not torch.equal(trained(**usual), trained(**usual | options))


def test_the_levels_are_means_over_all_batches_also_before_the_window():
    data = batches(3)
    module = build(AGM, Concat, data, start_epoch=1, lr=0.0, parts={"scheduler": None})
    fit(module, data, epochs=2)
    assert int(module.num_batches) == 6
    own = [module.fusion.unimodal(module.features(b)) for b in data]
    expected = [
        sum(cross_entropy(z[m], b["label"]) for z, b in zip(own, data, strict=True)) / 3
        for m in module.modalities
    ]
    torch.testing.assert_close(module.tau, torch.stack(expected).detach())
    assert {"tau", "num_batches"} <= module.state_dict().keys()


def test_a_large_entry_of_the_heads_gradient_clips_all_gradients():
    data = batches(1)
    for limit, is_clipped in ((1e-3, True), (1e3, False)):
        module = build(Recorded, Concat, data, head_clip=limit)
        fit(module, data)
        norm = torch.stack([g.norm() for g in module.grads.values()]).norm()
        if is_clipped:
            assert float(norm) == pytest.approx(limit, rel=1e-2)
        else:
            assert all(torch.equal(g, module.grads[key]) for key, g in module.raw.items())


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_large_entry_is_one_of_either_sign_in_a_matrix(sign):
    module = build(AGM, Concat, batches(1), head_clip=0.5)
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 0.1)
    module.fusion.head.weight.grad[1, 2] = sign * 3.0
    gradients = [parameter.grad for parameter in module.parameters()]
    before = [gradient.clone() for gradient in gradients]
    module._clip_by_head()
    norm = float(torch.cat([gradient.flatten() for gradient in before]).norm())
    for gradient, old in zip(gradients, before, strict=True):
        torch.testing.assert_close(gradient, old * 0.5 / norm)
    module.fusion.head.weight.grad.zero_()
    module.fusion.head.bias.grad.fill_(9.0)  # is no matrix
    module._clip_by_head()
    assert module.fusion.head.bias.grad.unique().tolist() == [9.0]


@pytest.mark.parametrize("is_fusion_frozen", [True, False])
def test_a_frozen_fusion_has_no_entry_that_clips(is_fusion_frozen):
    data, ends = batches(2), []
    for head_clip in (None, 1e-6):
        module = build(AGM, Concat, data, head_clip=head_clip)
        module.fusion.requires_grad_(not is_fusion_frozen)
        fit(module, data)
        ends.append(weights(module.encoders))
    assert torch.equal(*ends) == is_fusion_frozen


@pytest.mark.parametrize("absent", ["feature", "input"])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_reported_parts_add_up_to_the_fused_logits(num_modalities, absent):
    data = batches(1, num_modalities)
    module = build(AGM, BiGated, data, encoder=Normed, absent=absent).eval()
    logits = module.evaluate_batch(data[0])
    total = sum(logits[name] for name in module.modalities)
    torch.testing.assert_close(total, logits["multi"], rtol=1e-4, atol=1e-5)
    by_features = module.logits(module.features(data[0]), data[0]["present"])
    same = torch.allclose(by_features["audio"], logits["audio"])
    assert same == (absent == "feature")
    assert torch.equal(by_features["multi"], logits["multi"])


def test_inputs_of_zeros_leave_batch_statistics_and_modes_as_they_are():
    data = batches(2)
    ours, plain = (
        build(AGM, Concat, data, encoder=Normed, absent=a, lr=0.0) for a in ("input", "feature")
    )
    for module in (ours, plain):
        fit(module, data)
        module.train()
    for (key, value), other in zip(
        ours.encoders.named_buffers(), plain.encoders.buffers(), strict=True
    ):
        assert torch.equal(value, other), key


def test_half_precision_keeps_the_levels_in_single():
    data = batches(3)
    half, single = build(AGM, Concat, data, lr=0.0), build(AGM, Concat, data, lr=0.0)
    fit(half, data, precision="bf16-mixed")
    fit(single, data)
    assert half.tau.dtype == torch.float32
    torch.testing.assert_close(half.tau, single.tau, rtol=1e-2, atol=1e-2)


def test_a_loss_of_other_tasks_has_the_same_limit():
    data = [{**batch, "label": torch.full((len(batch["label"]),), 1e6)} for batch in batches(1)]
    parts = {"task": Regression(mean=0.0, std=1.0), "num_classes": 1}
    module = build(AGM, Concat, data, parts=parts, lr=0.0)
    fit(module, data)
    assert module.tau.tolist() == pytest.approx([18.420681] * 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": -1.0}, "method.alpha must be >= 0"),
        ({"head_clip": 0.0}, "or null for none"),
        ({"absent": "inputs"}, "Did you mean 'input'"),
        ({"sign": "minus"}, "Known: paper, balancemm"),
        ({"start_epoch": 3, "end_epoch": 2}, "lies before"),
        ({"parts": {"accumulate": 2}}, "cannot be computed in chunks"),
        ({"parts": {"is_complete": False}}, "no rule for samples with missing modalities"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(AGM, Concat, batches(1), **options)


def test_a_start_that_is_never_reached_is_refused():
    with pytest.raises(ConfigError, match="never reached"):
        trained(start_epoch=2)
