"""CGGM against a plain loop of its formula; its switches, equivalences and refusals."""

import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import Linear, batches, build, fit, weights
from torch.nn.functional import cross_entropy

from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Concat, ConcatHeads, Sum
from mla_lightning.methods import CGGM, Joint
from mla_lightning.tasks import Regression

LR = 0.05


def cosine(a, b):
    a, b = a.flatten(), b.flatten()
    return (a @ b) / ((a @ a).sqrt() * (b @ b).sqrt())


def direction_gradient(module, features, y, k, direction):
    """Value of the direction loss and its gradient in the joint head, without a graph of a graph.

    The gradient of the joint loss is (p - y)^T h / B, whose derivative needs no second pass.
    """
    weight, bias = (p.detach().requires_grad_() for p in module.fusion.head.parameters())
    joined = torch.cat([*features.values()], dim=1).detach()
    one_hot = torch.eye(len(bias), dtype=weight.dtype)[y]
    slope = ((joined @ weight.T + bias).softmax(dim=1) - one_hot).T @ joined / len(y)
    compared = weight if direction == "weights" else slope
    start, terms = 0, []
    for (m, h), of_m in zip(features.items(), k, strict=True):
        h, classify = h.detach(), module.classifiers[m]
        other = classify.weight.detach()
        if direction == "gradients":
            p = (h @ other.T + classify.bias.detach()).softmax(dim=1)
            other = (p - one_hot).T @ h / len(y)
        columns = compared[:, start : start + h.shape[1]]
        terms.append(abs(of_m) - of_m * cosine(columns, other))
        start += h.shape[1]
    value = sum(terms) / len(terms)
    return float(value.detach()), torch.autograd.grad(value, [weight, bias], allow_unused=True)


def plain_loop(module, data, *, rho=1.3, bounds=(0.0, 2.0), direction="none", strength=0.2):
    """The algorithm, written without functions of the package; return coefficients and terms."""
    own = [*module.classifiers.parameters()]
    rest = [*module.encoders.parameters(), *module.fusion.parameters()]
    optimizers = torch.optim.SGD(rest, lr=LR), torch.optim.SGD(own, lr=0.5 * LR)
    before, k, used, terms = [0.0] * len(module.modalities), None, [], []
    for batch in data:
        y = batch["label"]
        for optimizer in optimizers:
            optimizer.zero_grad()
        features = {m: module.encoders[m](x) for m, x in batch["inputs"].items()}
        cross_entropy(module.fusion.head(torch.cat([*features.values()], dim=1)), y).backward()
        if direction != "none" and k is not None:
            value, gradients = direction_gradient(module, features, y, k, direction)
            terms.append(strength * value)
            for parameter, gradient in zip(module.fusion.head.parameters(), gradients, strict=True):
                if gradient is not None:
                    parameter.grad += strength * gradient
        accuracies = []
        for m, h in features.items():
            logits = module.classifiers[m](h.detach())
            cross_entropy(logits, y).backward()
            accuracies.append(int((logits.argmax(dim=1) == y).sum()) / len(y))
        changes = [now - then for now, then in zip(accuracies, before, strict=True)]
        before, total = accuracies, sum(changes) + 1e-8
        k = [(total - change) / total for change in changes]
        if bounds is not None:
            k = [min(max(of_m, bounds[0]), bounds[1]) for of_m in k]
        used.append(k)
        for encoder, of_m in zip(module.encoders.values(), k, strict=True):
            for parameter in encoder.parameters():
                parameter.grad *= rho * of_m
        for optimizer in optimizers:
            optimizer.step()
    return used, terms


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"bounds": None, "rho": 0.7},
        {"direction": "weights", "direction_weight": 0.6},
        {"direction": "gradients"},
    ],
)
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_cggm_is_its_formula(num_modalities, settings):
    data = [incomplete_batch(num_modalities, is_complete=True, seed=s) for s in range(5)]
    ours, plain = (build_method("cggm", data[0], **settings) for _ in range(2))
    losses = fit(ours, data, precision="64-true")
    renamed = {"direction_weight": "strength"}
    options = {renamed.get(key, key): value for key, value in settings.items()}
    used, terms = plain_loop(plain.double(), data, **options)
    assert len({tuple(k) for k in used}) > 2
    torch.testing.assert_close(weights(ours), weights(plain), rtol=1e-6, atol=1e-8)
    assert ours.coefficients.tolist() == pytest.approx(used[-1], rel=1e-6)
    if "direction" in settings:
        found = [of_step["direction"] for of_step in losses]
        assert found == pytest.approx([0.0, *terms], abs=1e-8)


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_a_constant_coefficient_is_concat_with_idle_classifiers(num_modalities, clip_norm):
    data, parts = batches(3, num_modalities), {"clip_norm": clip_norm}
    ours = build(CGGM, Concat, data, rho=2.0, bounds=[0.5, 0.5], parts=parts)
    other = build(Joint, Concat, data, parts=parts)
    joint = [of_step["joint"] for of_step in fit(ours, data, epochs=2)]
    assert joint == [of_step["joint"] for of_step in fit(other, data, epochs=2)]
    for key, value in other.named_parameters():
        assert torch.equal(ours.get_parameter(key), value)


@pytest.mark.parametrize(
    "settings",
    [
        {"rho": 0.5},
        {"bounds": None},
        {"bounds": [0.9, 1.1]},
        {"direction": "weights"},
        {"direction": "gradients"},
        {"classifier_lr_ratio": 20.0},
    ],
)
def test_every_setting_of_cggm_changes_the_weights(settings):
    data = batches(5)
    usual, other = build(CGGM, Concat, data), build(CGGM, Concat, data, **settings)
    fit(usual, data, epochs=2)
    fit(other, data, epochs=2)
    assert not torch.equal(weights(usual), weights(other))


def test_the_direction_reaches_the_fused_head_alone():
    data = batches(2)
    for direction, reached in (("weights", {"weight"}), ("gradients", {"weight", "bias"})):
        usual = build(CGGM, Concat, data, bounds=[1.0, 1.0])
        other = build(CGGM, Concat, data, bounds=[1.0, 1.0], direction=direction)
        fit(usual, data)
        fit(other, data)  # the first batch has no direction, and the second no later one
        for key, value in usual.named_parameters():
            is_reached = key.removeprefix("fusion.head.") in reached
            assert torch.equal(other.get_parameter(key), value) != is_reached


def test_the_direction_of_gradients_is_in_full_precision_under_autocast():
    data, found = batches(3), []
    for precision in ("32-true", "bf16-mixed"):
        module = build(CGGM, Concat, data, direction="gradients", bounds=[1.0, 1.0], lr=0.01)
        losses = fit(module, data, precision=precision)
        found.append([of_step["direction"] for of_step in losses])
    assert found[0] == pytest.approx(found[1], rel=0.05)
    assert found[0][1] > 0


def test_classifiers_have_a_learning_rate_of_their_own_throughout_a_schedule():
    def halved(optimizer):
        return torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    data = batches(1)
    module = build(CGGM, Concat, data, parts={"scheduler": halved}, classifier_lr_ratio=0.25)
    (optimizer,), (schedule,) = module.configure_optimizers()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.025])
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.0125])
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len([*module.parameters()])


def test_what_cggm_remembers_is_in_its_state():
    data = batches(2)
    module = build(CGGM, Concat, data)
    fit(module, data)
    state = module.state_dict()
    assert state["num_right"].max() > 0
    assert state["num_seen"] == 8
    assert {"coefficients", "classifiers.audio.weight"} <= state.keys()


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [((15, 25), (32, 8), [0.0, 2.0]), ((25, 15), (8, 32), [2.0, 0.0])],
)
def test_changes_that_cancel_out_are_not_a_matter_of_rounding(before, after, expected):
    """In single precision these accuracies change by 1e-8 less than nothing together."""
    data = batches(2, size=100)
    for batch, counts in zip(data, (before, after), strict=True):
        batch["label"] = torch.repeat_interleave(
            torch.arange(3), torch.tensor([*counts, 100 - sum(counts)])
        )
    module = build(CGGM, Concat, data, lr=0.0)
    with torch.no_grad():
        for number, classify in enumerate(module.classifiers.values()):
            classify.weight.zero_()  # the first always predicts class 0, the second class 1
            classify.bias.copy_(torch.eye(4)[number])
    fit(module, data)
    assert module.num_right.tolist() == [*after]
    assert module.coefficients.tolist() == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rho": 0.0}, r"rho must be > 0"),
        ({"classifier_lr_ratio": 0.0}, r"classifier_lr_ratio must be > 0"),
        ({"bounds": [2.0, 0.0]}, r"two numbers, the lower one first, or null"),
        ({"direction": "weight"}, r"direction='weight' is unknown.*Did you mean 'weights'"),
        ({"direction": "weights", "direction_weight": 0.0}, r"this is method\.direction=none"),
        ({"direction_weight": 0.5}, r"no effect with method\.direction=none.*direction=weights"),
    ],
)
def test_cggm_refuses(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(CGGM, Concat, batches(1), **settings)


@pytest.mark.parametrize("parts", [{"accumulate": 2}, {"num_ranks": 2}])
def test_gradients_of_parts_of_a_batch_are_not_compared(parts):
    with pytest.raises(ConfigError, match=r"direction=gradients compares.*direction=weights"):
        build(CGGM, Concat, batches(1), direction="gradients", parts=parts)
    build(CGGM, Concat, batches(1), direction="weights", parts=parts)


def test_the_direction_of_weights_is_that_of_the_batch_in_chunks():
    data, found = batches(4), []
    for accumulate in (1, 3):
        parts = {"accumulate": accumulate}
        module = build(CGGM, Concat, data, direction="weights", parts=parts)
        losses = fit(module, data, precision="64-true")
        found.append((weights(module), [of_step["direction"] for of_step in losses]))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-8, atol=1e-10)
    assert found[0][1] == pytest.approx(found[1][1])


def test_cggm_needs_concat_trained_encoders_and_classes():
    data = batches(1)
    for fusion in (Sum, ConcatHeads):
        with pytest.raises(ConfigError, match=r"CGGM takes each modality's columns.*=concat\."):
            build(CGGM, fusion, data)
    with pytest.raises(ConfigError, match=r"No encoder has a parameter.*method=concat"):
        build(CGGM, Concat, data, encoder=lambda: Linear().requires_grad_(False))
    with pytest.raises(ConfigError, match=r"not for regression.*accuracy.*Use method="):
        build(CGGM, Concat, data, parts={"task": Regression(mean=0.0, std=1.0), "num_classes": 1})
