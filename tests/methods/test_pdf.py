"""PDF: weights by the predicted probability of the true class, against a plain loop."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import batches, build, fit, weights

from mla_lightning.batch import as_batch
from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Calibrated, Concat
from mla_lightning.fusion import LateFusion as LateLogits
from mla_lightning.methods import PDF, LateFusion
from mla_lightning.run.diagnose import fusion_weights
from mla_lightning.run.evaluate import SplitPredictions
from mla_lightning.run.predict import _forward
from mla_lightning.tasks import Multilabel, Regression

LR = 0.2
DIMS = {"audio": 4, "visual": 6, "text": 5}


def nll(z, y):
    return z.exp().sum(dim=1).log() - z[torch.arange(len(y)), y]


def plain_weights(t, present, rc=None):
    """Weights of one sample, by the formulas: t and rc by modality."""
    names = [m for m in t if present[m]]
    logs = {m: t[m].log() for m in names}
    belief = {}
    for m in names:
        others = sum(v for j, v in logs.items() if j != m)
        belief[m] = (t[m] + others / sum(logs.values())) * (1.0 if rc is None else rc[m])
    total = sum(b.exp() for b in belief.values())
    return {m: belief[m].exp() / total if m in names else 0.0 for m in t}


def plain_tcp(net, h):
    for layer in [layer for layer in net if isinstance(layer, torch.nn.Linear)]:
        h = h @ layer.weight.T + layer.bias
    return 1 / (1 + (-h[:, 0]).exp())


@pytest.mark.parametrize("is_complete", [True, False])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_the_steps_are_those_of_the_algorithm(num_modalities, is_complete):
    batch = incomplete_batch(num_modalities, is_complete=is_complete)
    settings = {"optimizer": partial(torch.optim.SGD, lr=LR)}
    ours = build_method("pdf", batch, **settings)
    plain = build_method("pdf", batch, **settings).double()
    fit(ours, [batch], epochs=3, precision="64-true")
    optimizer = torch.optim.SGD(plain.parameters(), lr=LR)
    y, present = batch["label"], batch["present"]
    for _ in range(3):
        optimizer.zero_grad()
        h = {
            m: (batch["inputs"][m] @ e.weight.T + e.bias) * present[m][:, None]
            for m, e in plain.encoders.items()
        }
        heads, nets = plain.fusion.heads, plain.fusion.nets
        z = {m: x @ heads[m].weight.T + heads[m].bias for m, x in h.items()}
        t = {m: plain_tcp(nets[m], x.detach()) for m, x in h.items()}
        fused = []
        for n in range(len(y)):
            has = {m: bool(present[m][n]) for m in z}
            w = plain_weights({m: t[m][n].detach() for m in t}, has)
            fused.append(sum(w[m] * z[m][n] for m in z))
        loss = nll(torch.stack(fused), y).mean()
        for m in z:
            true = (-nll(z[m], y)).exp().detach()
            for each in (nll(z[m], y), (t[m] - true).abs()):
                loss = loss + (each * present[m]).sum() / present[m].sum()
        loss.backward()
        optimizer.step()
    for key, value in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(key), value, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_constant_networks_without_calibration_are_late_fusion(num_modalities):
    data = batches(3, num_modalities)
    parts = {"optimizer": partial(torch.optim.SGD, lr=LR)}
    late = build(LateFusion, LateLogits, data, joint_weight=1.0, parts=parts)
    pdf = build(PDF, partial(Calibrated, calibration="none"), data, parts=parts)
    pdf.load_state_dict(late.state_dict(), strict=False)
    for parameter in pdf.fusion.nets.parameters():
        parameter.data.zero_()
        parameter.requires_grad_(False)
    own = {k: v for k, v in pdf.named_parameters() if not k.startswith("fusion.nets")}
    fit(late, data, epochs=2)
    fit(pdf, data, epochs=2)
    for key, value in late.named_parameters():
        assert torch.equal(own[key], value)
    late_logits, logits = (m.eval().evaluate_batch(data[0]) for m in (late, pdf))
    assert all(torch.equal(logits[key], z) for key, z in late_logits.items())


def test_weights_are_calibrated_in_evaluation_alone():
    torch.manual_seed(0)
    fusion = Calibrated(DIMS, 4).double()
    h = {m: torch.randn(7, d).double() for m, d in DIMS.items()}
    present = {m: torch.rand(7) < 0.7 for m in DIMS}
    present["text"][:] = True
    z = fusion.unimodal(h)
    t = {m: plain_tcp(fusion.nets[m], x) for m, x in h.items()}
    for is_training in (True, False):
        fusion.train(is_training)
        weights_MB = fusion.weights_of(h, present)
        assert not weights_MB.requires_grad
        for n in range(7):
            has = {m: bool(present[m][n]) for m in DIMS}
            du = {m: (z[m][n].softmax(0) - 0.25).abs().mean() for m in DIMS if has[m]}
            rc = None if is_training else {m: d / max(du.values()) for m, d in du.items()}
            w = plain_weights({m: t[m][n] for m in t}, has, rc)
            expected = torch.stack([torch.as_tensor(w[m]).double() for m in DIMS])
            torch.testing.assert_close(weights_MB[:, n], expected)
        fused = sum(weights_MB[row][:, None] * z[m] for row, m in enumerate(DIMS))
        torch.testing.assert_close(fusion(h, present), fused)


@pytest.mark.parametrize(
    "option", [{"calibration": "none"}, {"hidden_activation": "relu"}], ids=str
)
def test_every_setting_has_an_effect(option):
    torch.manual_seed(0)
    usual = Calibrated(DIMS, 4).eval()
    other = Calibrated(DIMS, 4, **option).eval()
    other.load_state_dict(usual.state_dict())
    h = {m: torch.randn(7, d) for m, d in DIMS.items()}
    assert not torch.equal(usual(h), other(h))


def test_predicted_probabilities_learn_without_changing_encoders():
    data = batches(1)
    module = build(PDF, Calibrated, data)
    h = module.features(data[0])
    t = module.fusion.predicted_probabilities(h)
    sum(x.sum() for x in t.values()).backward()
    assert all(p.grad is None for p in module.encoders.parameters())
    assert all(p.grad is not None for p in module.fusion.nets.parameters())
    before = weights(module.fusion.nets).clone()
    fit(module, data)
    assert not torch.equal(weights(module.fusion.nets), before)


def test_half_precision_has_weights_of_single_precision():
    data = batches(2)
    module = build(PDF, Calibrated, data)
    losses = fit(module, data, precision="bf16-mixed")
    assert all(torch.tensor([*step.values()]).isfinite().all() for step in losses)
    h = {m: x.bfloat16() for m, x in module.features(data[0]).items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert module.fusion.weights_of(h).dtype == torch.float32


def test_probabilities_approach_the_true_ones():
    data = batches(1, size=16)
    module = build(PDF, Calibrated, data, lr=0.05)
    losses = fit(module, data, epochs=60)
    assert losses[-1]["tcp/audio"] < 0.5 * losses[0]["tcp/audio"]


def test_predictions_and_diagnostics_have_the_weights_of_evaluation():
    data = batches(1)
    module = build(PDF, Calibrated, data).eval()
    batch = as_batch(data[0], module.modalities)
    with torch.no_grad():
        expected = module.fusion.weights_of(module.features(batch), batch["present"])
        _, found = _forward(module, batch)
        features, logits = module.features(batch), module.evaluate_batch(batch)
    assert torch.equal(torch.stack([*found.values()]), expected)
    predictions = SplitPredictions(
        logits, batch["label"], batch["index"], features, batch["present"]
    )
    is_correct = {m: logits[m].argmax(dim=1) == batch["label"] for m in module.modalities}
    holder = SimpleNamespace(
        fusion=module.fusion.train(), modalities=module.modalities, selections=module.selections
    )
    means = fusion_weights(holder, predictions, is_correct, 3)
    for row, name in enumerate(module.modalities):
        assert means[name]["mean"] == pytest.approx(float(expected[row].mean()), rel=1e-5)
    assert module.fusion.logit_weights(logits) is None


@pytest.mark.parametrize(
    ("build_it", "message"),
    [
        (lambda: build(PDF, Concat, batches(1)), "Use fusion@method.fusion=calibrated"),
        (lambda: Calibrated(DIMS, 1), "at least two classes.*Use fusion=late"),
        (lambda: Calibrated(DIMS, 2, calibration="tests"), "calibration='tests' is unknown.*test"),
        (lambda: Calibrated(DIMS, 2, hidden_activation="gelu"), "Known: none, relu"),
        (lambda: Calibrated(DIMS, 3).follow(Multilabel()), "not for multilabel.*Use fusion=late"),
        (lambda: Calibrated(DIMS, 2).follow(Regression(mean=0.0, std=1.0)), "not for regression"),
    ],
)
def test_what_is_refused(build_it, message):
    with pytest.raises(ConfigError, match=message):
        build_it()
