"""Every head gradient modification against a plain loop that computes it from its closed form."""

from dataclasses import dataclass
from functools import partial

import pytest
import torch
from tests.methods.harness import BATCH, NUM_CLASSES, WIDTH, batches, build, fit, weights
from torch.nn.functional import cross_entropy

from mla_lightning.fusion.shared_head import SharedHead
from mla_lightning.methods.mla import MLA

SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-2)


@dataclass
class Step:
    """A step of the plain loop, after backward: what a modification may look at."""

    batch: int
    is_first: bool
    name: str
    feature: torch.Tensor
    label: torch.Tensor


def plain_loop(module, data, edit, after, order):
    """Alternate in plain PyTorch; edit(step) before and after(step, W, b before) after it."""
    head, optimizer = module.fusion.head, SGD(module.parameters())
    for number, batch in enumerate(data):
        for name in order:
            optimizer.zero_grad()
            feature = module.encoders[name](batch["inputs"][name])
            cross_entropy(head(feature), batch["label"]).backward()
            step = Step(number, name == order[0], name, feature.detach(), batch["label"])
            with torch.no_grad():
                edit(step)
                before = head.weight.clone(), head.bias.clone()
                optimizer.step()
                after(step, *before)


def nothing(*_):
    pass


def conflict(head, names):
    """Take away what points against the others' last gradients, as these came."""
    last, conflicts = {}, []

    def edit(step):
        raw = head.weight.grad.clone()
        for other in names:
            if other != step.name and other in last:
                dot = float((head.weight.grad * last[other]).sum())
                conflicts.append(dot < 0)
                if dot < 0:
                    head.weight.grad -= dot / float(last[other].square().sum()) * last[other]
        last[step.name] = raw

    return edit, nothing, conflicts


def centred(head, names):
    """Sum over samples of (p - y) (h - mean h)^T."""

    def edit(step):
        logits = step.feature @ head.weight.T + head.bias
        error = logits.softmax(dim=1) - torch.eye(NUM_CLASSES)[step.label]
        head.weight.grad.copy_(error.T @ (step.feature - step.feature.mean(dim=0)) / BATCH)

    return edit, nothing, [True, False]


def outer_of_mean(feature, label):
    return torch.outer(feature.mean(dim=0), feature.mean(dim=0))


def outer_of_class_means(feature, label):
    means = [feature[label == c].mean(dim=0) for c in label.unique()]
    return sum(torch.outer(m, m) for m in means) / len(means)


def all_directions(feature, label):
    return feature.T @ feature / len(feature)


def projection(head, names, *, moment=outer_of_mean, kept=None, others=True, alpha=0.1, **settings):
    """(I + R / a)^-1 of the moments R of all past steps, or of a memory that forgets."""
    bias, update = settings.get("project_bias"), settings.get("project_update")
    every, current = settings.get("reset_every"), settings.get("source") == "current"
    width = WIDTH + bool(bias)
    memory = {}

    def learn(step):
        feature = step.feature
        if bias:
            feature = torch.cat([feature, torch.ones(len(feature), 1)], dim=1)
        new, old = moment(feature, step.label), memory.get(step.name)
        if old is None:
            memory[step.name] = new
        else:
            memory[step.name] = old + new if kept is None else kept * old + (1 - kept) * new

    def projected(name, weight, of_bias):
        used = [m for other, m in memory.items() if not others or other != name]
        total = sum(used, torch.zeros(width, width))
        a = alpha if kept is None else alpha * total.trace() / width
        if used:
            gradient = torch.cat([weight, of_bias[:, None]], dim=1) if bias else weight
            gradient = torch.linalg.solve(total + a * torch.eye(width), a * gradient.T).T
            return gradient[:, :WIDTH], gradient[:, WIDTH] if bias else of_bias
        return weight, of_bias

    def edit(step):
        if every and step.batch % every == 0 and step.is_first:
            memory.clear()
        if current:
            learn(step)
        if not update:
            weight, of_bias = projected(step.name, head.weight.grad, head.bias.grad)
            head.weight.grad.copy_(weight)
            head.bias.grad.copy_(of_bias)

    def after(step, weight, of_bias):
        if update:
            by_weight, by_bias = projected(step.name, head.weight - weight, head.bias - of_bias)
            head.weight.copy_(weight + by_weight)
            head.bias.copy_(of_bias + by_bias)
        if not current:
            learn(step)

    return edit, after, [True, False]


MEMORIES = {
    "means": outer_of_mean,
    "moments": all_directions,
    "class_means": outer_of_class_means,
}
ORACLES = [
    ({"projection": "conflict"}, conflict),
    ({"projection": "centred"}, centred),
    *[
        ({"projection": mode, **more}, partial(projection, moment=moment, kept=0.95))
        for mode, moment in MEMORIES.items()
        for more in ({}, {"project_bias": True}, {"project_update": True}, {"reset_every": 2})
    ],
    ({"projection": "class_means", "forgetting": 0.5}, partial(projection, kept=0.5)),
    *[
        ({"projection": mode, **more}, partial(projection, others=mode == "others"))
        for mode in ("owm", "others")
        for more in (
            {},
            {"alpha": 0.5},
            {"project_bias": True},
            {"project_update": True},
            {"project_bias": True, "project_update": True},
            {"reset_every": 2},
        )
    ],
    ({"projection": "owm", "source": "current"}, partial(projection, others=False)),
]


@pytest.mark.parametrize("order", [["audio", "visual"], ["text", "audio", "visual"]])
@pytest.mark.parametrize(("settings", "oracle"), ORACLES, ids=[str(given) for given, _ in ORACLES])
def test_a_modification_is_its_closed_form(settings, oracle, order):
    data = batches(5, len(order))
    ours = build(MLA, SharedHead, data, order=order, **settings)
    plain = build(MLA, SharedHead, data, hgm=False)
    if settings["projection"] == "class_means":
        oracle = partial(oracle, moment=outer_of_class_means)
    more = {k: v for k, v in settings.items() if k not in ("projection", "forgetting")}
    edit, after, applied = oracle(plain.fusion.head, plain.modalities, **more)
    plain_loop(plain, data, edit, after, order)
    fit(ours, data)
    assert set(applied) == {True, False}  # a rule that applies to some has applied to some
    torch.testing.assert_close(weights(ours), weights(plain), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-2),
        partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True),
        partial(torch.optim.AdamW, lr=0.01),
        partial(torch.optim.RMSprop, lr=0.01),
    ],
    ids=["sgd", "nesterov", "adamw", "rmsprop"],
)
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_own_momentum_is_an_optimiser_of_the_head_for_each_modality(num_modalities, optimizer):
    data = batches(5, num_modalities)
    settings = {"projection": "own_momentum"}
    ours = build(MLA, SharedHead, data, parts={"optimizer": optimizer}, **settings)
    plain = build(MLA, SharedHead, data, parts={"optimizer": optimizer}, hgm=False)
    head = plain.fusion.head
    of_encoders = optimizer(plain.encoders.parameters())
    of_head = {name: optimizer(head.parameters()) for name in plain.modalities}
    for batch in data:
        for name in plain.modalities:
            plain.zero_grad()
            logits = head(plain.encoders[name](batch["inputs"][name]))
            cross_entropy(logits, batch["label"]).backward()
            of_encoders.step()
            of_head[name].step()
    fit(ours, data)
    assert torch.equal(weights(ours), weights(plain))


def test_own_momentum_clips_the_gradient_that_it_hands_on():
    data = batches(1)
    free, held = (
        build(MLA, SharedHead, data, projection="own_momentum", parts={"clip_norm": norm})
        for norm in (None, 1e-6)
    )
    start = free.fusion.head.weight.detach().clone()
    fit(free, data)
    fit(held, data)
    assert (free.fusion.head.weight - start).norm() > 1e-2
    decay = 2 * 0.1 * 1e-2 * start.norm()  # the decay is not clipped; momentum starts at zero
    assert (held.fusion.head.weight - start).norm() < 2 * 0.1 * 1e-6 + decay
