"""UMT, G2D and PDMP against plain loops, and their settings."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import batches, build, fit, weights

from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Concat, LateFusion
from mla_lightning.methods.g2d import G2D
from mla_lightning.methods.joint import Joint
from mla_lightning.methods.mechanisms.teachers import Teacher
from mla_lightning.methods.pdmp import PDMP
from mla_lightning.methods.umt import UMT

LR = 0.05
FIT = {"precision": "64-true"}
pytestmark = pytest.mark.filterwarnings("ignore:.*in eval mode")


def nll(z, y):
    return z.exp().sum(dim=1).log() - z[torch.arange(len(y)), y]


def encoded(encoders, batch):
    return {
        m: (batch["inputs"][m] @ e.weight.T + e.bias) * batch["present"][m][:, None]
        for m, e in encoders.items()
    }


def mean_of(values_B, has_B):
    return (values_B * has_B).sum() / has_B.sum()


def trained_teachers(plain, batch, steps=1):
    """Train encoders and heads alone, from the same initial weights."""
    encoders, heads = deepcopy(plain.encoders), deepcopy(plain.trainee.heads)
    optimizer = torch.optim.SGD([*encoders.parameters(), *heads.parameters()], lr=LR)
    for _ in range(steps):
        optimizer.zero_grad()
        own = {m: heads[m](h) for m, h in encoded(encoders, batch).items()}
        loss = sum(mean_of(nll(z, batch["label"]), batch["present"][m]) for m, z in own.items())
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        features = encoded(encoders, batch)
        return features, {m: heads[m](h) for m, h in features.items()}


def fused_by_concat(plain, features):
    head = plain.fusion.head
    return torch.cat([*features.values()], dim=1) @ head.weight.T + head.bias


def umt(plain, batch, taught, _):
    features = encoded(plain.encoders, batch)
    loss = nll(fused_by_concat(plain, features), batch["label"]).mean()
    for m, h in features.items():
        distance = ((h - taught[0][m]) ** 2).sum(dim=1) / h.shape[1]
        loss = loss + 3.0 * mean_of(distance, batch["present"][m])
    loss.backward()


def g2d(plain, batch, taught, step, *, windows, once=False):
    y, features = batch["label"], encoded(plain.encoders, batch)
    own = [plain.fusion.heads[m](h) for m, h in features.items()]
    fused = sum(own) / len(own)
    loss = nll(fused, y).mean()
    for m, h in features.items():
        p, q = (taught[1][m] / 2).softmax(1), (fused / 2).softmax(1)
        loss = loss + 0.5 * 4 * (p * (p / q).log()).sum(dim=1).mean()
        loss = loss + 0.7 * ((h - taught[0][m]) ** 2).mean()
    loss.backward()
    if once:
        strength = {m: float((z.argmax(1) == y).double().mean()) for m, z in taught[1].items()}
    else:
        strength = {m: float((-nll(z, y)).exp().sum()) for m, z in taught[1].items()}
    order = sorted(strength, key=strength.get)
    assert len(set(strength.values())) == len(order)
    for number, end in enumerate(torch.tensor(windows).cumsum(0).tolist()):
        if step < end:
            for m in strength.keys() - {order[number]}:
                for parameter in plain.encoders[m].parameters():
                    parameter.grad.zero_()
            break


def pdmp(plain, batch, taught, _):
    y, features = batch["label"], encoded(plain.encoders, batch)
    nll(fused_by_concat(plain, features), y).mean().backward()
    score = {
        m: float(mean_of((z.argmax(1) == y).double(), batch["present"][m]))
        for m, z in taught[1].items()
    }
    best = max(score, key=score.get)
    for m, encoder in plain.encoders.items():
        for parameter in encoder.parameters():
            parameter.grad *= 2.0 if m == best else 0.25


G2D_SETTINGS = {"logit_weight": 0.5, "feature_weight": 0.7, "temperature": 2.0}
CASES = [
    ("umt", {"distill_weight": 3.0}, umt, None),
    ("umt", {"distill_weight": 3.0}, umt, 3),
    ("g2d", {**G2D_SETTINGS, "suppress_epochs": 2}, partial(g2d, windows=[2]), 2),
    ("g2d", {**G2D_SETTINGS, "suppress_epochs": [1, 1]}, partial(g2d, windows=[1, 1]), 3),
    ("g2d", {**G2D_SETTINGS, "leader": "once"}, partial(g2d, windows=[1], once=True), 2),
    ("pdmp", {"dominant": 2.0, "others": 0.25}, pdmp, None),
    ("pdmp", {"dominant": 2.0, "others": 0.25}, pdmp, 3),
]


@pytest.mark.parametrize(("name", "settings", "step_of", "complete"), CASES)
def test_a_method_trains_on_its_formula(name, settings, step_of, complete):
    """Of two modalities some are missing unless the number of complete ones is given."""
    batch = incomplete_batch(complete or 2, is_complete=complete is not None, seed=3)
    ours = build_method(name, batch, teacher_epochs=1, **settings)
    plain = build_method(name, batch, teacher_epochs=1, **settings).double()
    fit(ours, [batch], epochs=4, **FIT)
    taught = trained_teachers(plain, batch)
    optimizer = torch.optim.SGD([*plain.encoders.parameters(), *plain.fusion.parameters()], lr=LR)
    for step in range(3):
        optimizer.zero_grad()
        step_of(plain, batch, taught, step)
        optimizer.step()
    for key, value in [*plain.encoders.named_parameters("encoders")]:
        torch.testing.assert_close(ours.get_parameter(key), value, rtol=1e-8, atol=1e-10)
    for key, value in plain.fusion.named_parameters("fusion"):
        torch.testing.assert_close(ours.get_parameter(key), value, rtol=1e-8, atol=1e-10)


def taught(method, fusion, data, **options):
    """Build a method whose teachers are given."""
    module = build(method, fusion, data, teachers="given", **options)
    rng = torch.Generator().manual_seed(7)

    def drawn(network):
        state = network.state_dict().items()
        return {k: torch.randn(v.shape, generator=rng) for k, v in state}

    heads = module.teachers["fusion"].heads
    scores = dict(zip(module.modalities, (0.5, 0.7, 0.6), strict=False))
    module.take_teachers(
        {
            m: Teacher(drawn(encoder), drawn(heads[m]), scores[m], 3)
            for m, encoder in module.encoders.items()
        }
    )
    return module


def student(module):
    """Return the weights of a method without those of its teachers."""
    return torch.cat([p.detach().flatten() for p in module.trained_parameters()])


def after(module, data, epochs=2):
    losses = fit(module, data, epochs=epochs)
    return losses, student(module)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_without_weight_umt_is_joint_training(num_modalities):
    data = batches(2, num_modalities)
    module = taught(UMT, Concat, data)
    module.distill_weight = 0.0
    joint = build(Joint, Concat, data)
    _, own = after(module, data)
    fit(joint, data, epochs=2)
    assert torch.equal(own, weights(joint))


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_with_factors_of_one_pdmp_is_joint_training(num_modalities):
    data = batches(2, num_modalities)
    module = taught(PDMP, Concat, data)
    module.dominant = module.others = 1.0
    joint = build(Joint, Concat, data)
    _, own = after(module, data)
    fit(joint, data, epochs=2)
    assert torch.equal(own, weights(joint))


def test_a_student_that_starts_as_its_teachers_is_at_no_distance():
    data = batches(1)
    module = taught(UMT, Concat, data)
    module.start_student = lambda: module.encoders.load_state_dict(
        module.teachers["encoders"].state_dict()
    )
    losses, _ = after(module, data)
    assert losses[0]["feature/audio"] == losses[0]["feature/visual"] == 0.0
    assert losses[1]["feature/audio"] > 0


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_without_window_and_logits_g2d_is_umt(num_modalities):
    data = batches(2, num_modalities)
    none = [0] * (num_modalities - 1)
    module = taught(G2D, LateFusion, data, logit_weight=0.0, suppress_epochs=none)
    ours, own = after(module, data)
    other, expected = after(taught(UMT, LateFusion, data, distill_weight=1.0), data)
    assert ours == other
    assert torch.equal(own, expected)
    assert any("no window" in note for note in module.notes)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"leader": "once"}),
        ({}, {"logit_weight": 2.0}),
        ({}, {"feature_weight": 0.0}),
        ({}, {"temperature": 2.0}),
        ({}, {"suppress_epochs": 0}),
        ({}, {"param_filter": "ndim>=2"}),
    ],
)
def test_a_setting_of_g2d_changes_the_student(first, second):
    data = batches(6)
    one, other = (after(taught(G2D, LateFusion, data, **o), data)[1] for o in (first, second))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_the_leader_of_g2d_is_that_of_the_whole_batch_in_chunks(num_modalities):
    data, found = batches(8, num_modalities), []
    windows = [1] + [0] * (num_modalities - 2)
    for accumulate in (1, 3):
        options = {"suppress_epochs": windows, "parts": {"accumulate": accumulate}}
        module = taught(G2D, LateFusion, data, **options)
        fit(module, data, epochs=2, **FIT)
        found.append(student(module))
    torch.testing.assert_close(found[1], found[0], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("setting", [{"dominant": 2.0}, {"others": 0.5}])
def test_a_setting_of_pdmp_changes_the_student(setting):
    data = batches(2)
    one, other = (after(taught(PDMP, Concat, data, **o), data)[1] for o in ({}, setting))
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("num_modalities", "num_epochs", "expected"),
    [(2, 300, [150]), (2, 1, [0]), (3, 10, [3, 2]), (3, 3, [1, 0])],
)
def test_windows_are_half_of_the_students_epochs(num_modalities, num_epochs, expected):
    module = build(G2D, LateFusion, batches(1, num_modalities))
    assert module.windows_of(num_epochs) == expected


def test_pdmp_says_when_several_are_the_best():
    data = batches(1)
    module = taught(PDMP, Concat, data)
    module.score_bits.fill_(0)
    fit(module, data)
    assert any("audio leads" in note for note in module.notes)


ERRORS = [
    (UMT, {"distill_weight": 0.0}, "must be > 0, got 0.0; without teachers this is method=concat"),
    (UMT, {"teacher_epochs": 0}, "method.teacher_epochs must be >= 1, got 0"),
    (UMT, {"teacher_epochs": 2, "teachers": "runs"}, "teacher_epochs=2 has no effect with"),
    (G2D, {"logit_weight": -1.0}, "must be >= 0 and not both 0, got -1.0 and 1.0"),
    (G2D, {"logit_weight": 0.0, "feature_weight": 0.0}, "use method=sum or method=concat"),
    (G2D, {"temperature": 0.0}, "method.temperature must be > 0, got 0.0"),
    (G2D, {"leader": "onc"}, r"method.leader='onc' is unknown. Did you mean 'once'"),
    (G2D, {"suppress_epochs": [1, 2]}, "2 modalities have 1 windows"),
    (G2D, {"suppress_epochs": -1}, "2 modalities have 1 windows"),
    (G2D, {"param_filter": "conv"}, "would be distillation without gradient guidance"),
    (PDMP, {"others": -0.1}, "method.others must be >= 0, got -0.1"),
    (PDMP, {"dominant": 0.5}, "which would balance the modalities. Use method=ogm_ge"),
    (PDMP, {"dominant": 1.0, "others": 1.0}, "use method=concat"),
]


@pytest.mark.parametrize(("method", "options", "message"), ERRORS)
def test_settings_out_of_range_are_refused(method, options, message):
    fusion = LateFusion if method is G2D else Concat
    with pytest.raises(ConfigError, match=message):
        build(method, fusion, batches(1), **options)


def test_a_window_over_all_epochs_is_refused():
    data = batches(1)
    module = taught(G2D, LateFusion, data, suppress_epochs=2)
    with pytest.raises(ConfigError, match="are all 2 epochs of the student"):
        fit(module, data, epochs=2)
