"""DGL: its formula, one step by hand, what passes no gradient, and late fusion's encoders."""

from functools import partial

import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import batches, build, fit, weights
from torch import nn
from torch.nn.functional import cross_entropy

from mla_lightning.errors import ConfigError
from mla_lightning.fusion import BiGated, Concat, ConcatHeads, SharedHead, Sum
from mla_lightning.fusion.late import LateFusion as LateLogits
from mla_lightning.methods.dgl import DGL
from mla_lightning.methods.late_fusion import LateFusion

ZERO = partial(Concat, unimodal_rule="zero_feature")


class Feature(nn.Module):
    """A feature that is a parameter, whatever the input."""

    out_features = 2

    def __init__(self, values):
        super().__init__()
        self.h = nn.Parameter(torch.tensor([values]))

    def forward(self, x):
        return self.h.expand(len(x), -1)


class Recorded(DGL):
    """Keeps the gradients of its last step."""

    def on_before_optimizer_step(self, optimizer):
        super().on_before_optimizer_step(optimizer)
        self.grads = {
            key: None if p.grad is None else p.grad.clone() for key, p in self.named_parameters()
        }


def test_a_step_by_hand():
    module = Recorded(
        encoders={"audio": Feature([1.0, 2.0]), "visual": Feature([0.5, -1.0])},
        num_classes=2,
        optimizer=partial(torch.optim.SGD, lr=0.1),
    )
    with torch.no_grad():
        module.fusion.head.weight.copy_(torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0]]))
        module.fusion.head.bias.copy_(torch.tensor([0.1, -0.1]))
    features = {name: encoder.h.detach() for name, encoder in module.encoders.items()}
    near = partial(torch.testing.assert_close, rtol=0, atol=2e-6)
    own = module.fusion.unimodal(features)
    near(own["audio"], torch.tensor([[1.1, 1.9]]))
    near(own["visual"], torch.tensor([[-0.9, 0.4]]))
    near(module.fusion(features), torch.tensor([[0.1, 2.4]]))
    x = {name: torch.zeros(1, 1) for name in features}
    ((losses),) = fit(module, [{**x, "label": torch.tensor([0])}])
    assert sum(losses.values()) == pytest.approx(13.243982, abs=1e-5)
    near(module.grads["encoders.audio.h"], torch.tensor([[-2.759898, 2.759898]]))
    near(module.grads["encoders.visual.h"], torch.tensor([[3.143340, -3.143340]]))
    row = torch.tensor([-0.908877, -1.817754, -0.454439, 0.908877])
    near(module.grads["fusion.head.weight"], torch.stack([row, -row]))
    near(module.grads["fusion.head.bias"], torch.tensor([-0.908877, 0.908877]))


def two_backward_passes(module, batch, weight):
    """Compute the gradients as the released code does: own losses, the fusion's reset, fused."""
    module.zero_grad(set_to_none=True)
    features = {m: e(batch["inputs"][m]) for m, e in module.encoders.items()}
    own = {
        m: module.fusion({k: h if k == m else torch.zeros_like(h) for k, h in features.items()})
        for m in features
    }
    total = sum(cross_entropy(z, batch["label"]) for z in own.values())
    (weight * total).backward()
    module.fusion.zero_grad(set_to_none=True)
    fixed = {m: h.detach() for m, h in features.items()}
    cross_entropy(module.fusion(fixed), batch["label"]).backward()
    return {key: p.grad for key, p in module.named_parameters()}


@pytest.mark.parametrize("fusion", [ZERO, BiGated])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_one_backward_pass_is_the_two_of_the_released_code(fusion, num_modalities):
    data = batches(1, num_modalities)
    ours, plain = build(Recorded, fusion, data), build(DGL, fusion, data)
    expected = two_backward_passes(plain, data[0], 4.0)
    fit(ours, data)
    assert ours.grads.keys() == expected.keys()
    for key, gradient in expected.items():
        torch.testing.assert_close(ours.grads[key], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_three_steps_are_a_plain_loop_with_missing_modalities(num_modalities):
    batch, weight, lr = incomplete_batch(num_modalities), 3.0, 0.05
    ours = build_method("dgl", batch, unimodal_weight=weight)
    plain = build_method("dgl", batch).double()
    fit(ours, [batch], epochs=3, precision="64-true")
    head, y = plain.fusion.head, batch["label"]
    for _ in range(3):
        columns = dict(zip(plain.encoders, head.weight.split(8, dim=1), strict=True))
        gradients, fused = [], head.bias
        for m, encoder in plain.encoders.items():
            has = batch["present"][m]
            h = (batch["inputs"][m] @ encoder.weight.T + encoder.bias) * has[:, None]
            fused = fused + h.detach() @ columns[m].T
            z = h @ columns[m].detach().T + head.bias.detach()
            own = weight * (cross_entropy(z, y, reduction="none") * has).sum() / has.sum()
            gradients += zip(
                encoder.parameters(), torch.autograd.grad(own, [*encoder.parameters()]), strict=True
            )
        loss = cross_entropy(fused, y)
        of_head = torch.autograd.grad(loss, [*head.parameters()])
        gradients += zip(head.parameters(), of_head, strict=True)
        with torch.no_grad():
            for parameter, gradient in gradients:
                parameter -= lr * gradient
    for key, value in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(key), value, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_with_heads_that_stay_as_they_are_encoders_are_those_of_late_fusion(num_modalities):
    """The weight of the own losses is a factor of the learning rate."""
    data = batches(3, num_modalities)
    modules = []
    for method, fusion, lr in ((DGL, Sum, 0.02), (LateFusion, LateLogits, 0.08)):
        module = build(method, fusion, data, parts={"optimizer": partial(torch.optim.SGD, lr=lr)})
        module.fusion.requires_grad_(False)
        fit(module, data)
        modules.append(module)
    ours, late = modules
    torch.testing.assert_close(weights(ours.encoders), weights(late.encoders))
    assert torch.equal(weights(ours.fusion), weights(late.fusion))


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_the_head_is_that_of_a_linear_probe_on_the_features_of_each_step(num_modalities):
    data = batches(4, num_modalities)
    module = build(DGL, ZERO, data)
    probe = nn.Linear(6 * num_modalities, 4)
    probe.load_state_dict(module.fusion.head.state_dict())
    optimizer = module.parts.optimizer(probe.parameters())
    fit_batch = module.fit_batch

    def probed(batch):
        with torch.no_grad():
            h = torch.cat([*module.features(batch).values()], dim=1)
        optimizer.zero_grad()
        cross_entropy(probe(h), batch["label"]).backward()
        optimizer.step()
        return fit_batch(batch)

    module.fit_batch = probed
    fit(module, data, epochs=2)
    torch.testing.assert_close(weights(module.fusion.head), weights(probe))


def test_own_heads_are_trained_on_own_losses_and_the_joint_head_on_the_fused_one():
    data = batches(2)
    ours = build(Recorded, ConcatHeads, data, own_heads=True)
    before = {key: p.clone() for key, p in ours.named_parameters()}
    fit(ours, data)
    assert all(not torch.equal(p, before[key]) for key, p in ours.named_parameters())
    read_through = build(DGL, ZERO, data)
    fit(read_through, data)
    assert not torch.equal(weights(read_through.encoders), weights(ours.encoders))


def test_the_rule_of_slices_has_a_share_of_the_bias():
    data = batches(3)
    runs = []
    for fusion in (Concat, ZERO):
        module = build(DGL, fusion, data)
        fit(module, data)
        runs.append(weights(module))
    assert not torch.equal(*runs)


def test_the_fusion_is_trained_again_after_a_step():
    data = batches(1)
    module = build(DGL, ZERO, data)
    module.fusion.head.bias.requires_grad_(False)
    fit(module, data)
    assert module.fusion.head.weight.requires_grad
    assert not module.fusion.head.bias.requires_grad


def test_half_precision_gives_the_fusion_no_gradient_of_own_losses():
    """Autocast keeps copies of weights, which must not be those of the other term."""
    data = batches(1)
    small, large = (build(Recorded, Sum, data, unimodal_weight=weight) for weight in (1.0, 64.0))
    for module in (small, large):
        fit(module, data, precision="bf16-mixed")
    for name in small.modalities:
        key = f"fusion.heads.{name}.weight"
        assert torch.equal(small.grads[key], large.grads[key])
        key = f"encoders.{name}.0.weight"
        torch.testing.assert_close(64 * small.grads[key], large.grads[key], rtol=1e-2, atol=1e-3)


def test_settings_without_sense_are_refused():
    data = batches(1)
    with pytest.raises(ConfigError, match="encoders would never learn"):
        build(DGL, ZERO, data, unimodal_weight=-1.0)
    with pytest.raises(ConfigError, match=r"own_heads=true needs heads.*concat_heads"):
        build(DGL, ZERO, data, own_heads=True)
    with pytest.raises(ConfigError, match="own heads of fusion concat_heads untrained"):
        build(DGL, ConcatHeads, data)
    with pytest.raises(ConfigError, match=r"'shared_head'.*fusion@method.fusion=concat_zero"):
        build(DGL, SharedHead, data)
