"""MLB against a plain loop of its formula; its switches, equivalences and refusals."""

from functools import partial

import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import batches, build, fit, weights

from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Concat, ConcatHeads, Sum
from mla_lightning.methods import MLB, JointUnimodal
from mla_lightning.tasks import Regression

LR = 0.05


def plain_step(module, batch, optimizer, *, alpha, beta=None, weight=1.0):
    """One step written from the paper's algorithm."""
    optimizer.zero_grad()
    y, head, heads = batch["label"], module.fusion.head, module.fusion.heads
    features = {m: x @ module.encoders[m].weight.T for m, x in batch["inputs"].items()}
    features = {m: h + module.encoders[m].bias for m, h in features.items()}
    p = {m: (h @ heads[m].weight.T + heads[m].bias).softmax(dim=1) for m, h in features.items()}
    of_true = {m: q[torch.arange(len(y)), y] for m, q in p.items()}
    joint = (torch.cat([*features.values()], dim=1) @ head.weight.T + head.bias).softmax(dim=1)
    loss = -joint[torch.arange(len(y)), y].log().mean()
    (loss - weight * sum(q.log().mean() for q in of_true.values())).backward()
    scores = {m: float(q.detach().mean()) for m, q in of_true.items()}
    for number, (m, score) in enumerate(scores.items()):
        rho = (sum(scores.values()) - score) / (len(scores) - 1) / score
        change = float(torch.tanh(torch.tensor(alpha * (rho - 1), dtype=torch.float64)))
        k = 1 + (change if beta is None or rho <= 1 else (beta - 1) * change)
        width = features[m].shape[1]
        head.weight.grad[:, number * width : (number + 1) * width] *= k
        for parameter in (*module.encoders[m].parameters(), *heads[m].parameters()):
            parameter.grad *= k
    optimizer.step()


@pytest.mark.parametrize(
    "settings",
    [{"alpha": 0.8}, {"alpha": 1.5, "beta": 4.0, "unimodal_weight": 0.5}, {"end_epoch": 0}],
)
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_mlb_is_its_formula(num_modalities, settings):
    data = [incomplete_batch(num_modalities, is_complete=True, seed=s) for s in range(3)]
    ours, plain = (build_method("mlb", data[0], **settings) for _ in range(2))
    plain.double()
    fit(ours, data, epochs=2, precision="64-true")
    optimizer = torch.optim.SGD(plain.parameters(), lr=LR)
    for epoch in range(2):
        strength = 0.0 if epoch > settings.get("end_epoch", epoch) else settings.get("alpha", 0.8)
        beta, weight = settings.get("beta"), settings.get("unimodal_weight", 1.0)
        for batch in data:
            plain_step(plain, batch, optimizer, alpha=strength, beta=beta, weight=weight)
    torch.testing.assert_close(weights(ours), weights(plain), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_without_strength_mlb_is_joint_unimodal_with_own_heads(num_modalities):
    data = batches(3, num_modalities)
    ours = build(MLB, ConcatHeads, data, alpha=0.0)
    other = build(JointUnimodal, ConcatHeads, data)
    assert fit(ours, data, epochs=2) == fit(other, data, epochs=2)
    assert torch.equal(weights(ours), weights(other))


@pytest.mark.parametrize(
    "settings",
    [{"alpha": 0.3}, {"beta": 5.0}, {"unimodal_weight": 0.3}, {"start_epoch": 1}, {"end_epoch": 0}],
)
def test_every_setting_of_mlb_changes_the_weights(settings):
    data = batches(2)
    usual, other = build(MLB, ConcatHeads, data), build(MLB, ConcatHeads, data, **settings)
    fit(usual, data, epochs=2)
    fit(other, data, epochs=2)
    assert not torch.equal(weights(usual), weights(other))


def test_a_modality_that_predicts_nothing_leaves_finite_weights():
    data = batches(2)
    module = build(MLB, ConcatHeads, data)
    with torch.no_grad():
        for head in module.fusion.heads.values():
            head.weight.mul_(1e6)
    fit(module, data)
    assert bool(weights(module).isfinite().all())


def test_mlb_compares_other_tasks_by_their_losses():
    data = [{**batch, "label": batch["label"].float()} for batch in batches(2)]
    parts = {"task": Regression(mean=1.0, std=2.0), "num_classes": 1}
    ours = build(MLB, ConcatHeads, data, parts=parts)
    other = build(JointUnimodal, ConcatHeads, data, parts=parts)
    fit(ours, data)
    fit(other, data)
    assert not torch.equal(weights(ours), weights(other))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -1.0}, r"alpha must be >= 0"),
        ({"beta": 0.5}, r"beta must be >= 1, got 0.5.*null is 2"),
        ({"beta": 3.0, "alpha": 0.0}, r"beta has no effect with method\.alpha=0"),
        ({"unimodal_weight": 0.0}, r"unimodal_weight must be > 0.*Use method=ogm"),
        ({"start_epoch": 3, "end_epoch": 2}, r"lies before start_epoch"),
    ],
)
def test_mlb_refuses(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(MLB, ConcatHeads, batches(1), **settings)


@pytest.mark.parametrize("fusion", [Concat, Sum])
def test_mlb_needs_own_heads(fusion):
    with pytest.raises(ConfigError, match=r"MLB needs a head of its own.*=concat_heads"):
        build(MLB, fusion, batches(1))


def test_mlb_must_reach_its_first_epoch():
    with pytest.raises(ConfigError, match=r"never reached.*this would be method=joint_unimodal"):
        fit(build(MLB, ConcatHeads, batches(1), start_epoch=1), batches(1))


def test_encoders_that_share_parameters_are_refused():
    data, shared = batches(1), torch.nn.Linear(5, 6)
    encoders = dict.fromkeys(data[0]["inputs"], shared)
    sgd = partial(torch.optim.SGD, lr=0.1)
    with pytest.raises(ConfigError, match=r"'audio' and 'visual' share parameters"):
        MLB(encoders=encoders, num_classes=4, optimizer=sgd)
