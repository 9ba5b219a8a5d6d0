"""AUG against a plain loop of its formulas, against MLA, and its switches and errors."""

from functools import partial

import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import NUM_CLASSES, batches, build, fit, weights
from torch import nn

from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Branched, Concat
from mla_lightning.methods import AUG, MLA, Joint

LR = 0.05
SMALL = partial(Branched, hidden=5, num_branches=3)


def nll(z, y):
    return z.exp().sum(dim=1).log() - z[torch.arange(len(y)), y]


def loss_of(us, y, discount):
    """The loss of a modality with classifiers of these logits."""
    z = sum(us)
    if len(us) == 1:
        return nll(z, y).mean()
    before = sum(us[:-1])
    p = before.detach().exp() / before.detach().exp().sum(dim=1, keepdim=True)
    weight = 1 - discount * p[torch.arange(len(y)), y]
    return nll(z, y).mean() + nll(before, y).mean() + (weight * nll(us[-1], y)).mean()


class Plain:
    """The algorithm on copies of a module's weights, by plain gradient descent."""

    def __init__(self, module, batch, *, discount=0.5, threshold=0.0, rule="difference"):
        self.p = {k: v.clone().requires_grad_() for k, v in module.named_parameters()}
        self.batch, self.discount, self.threshold = batch, discount, threshold
        self.rule = rule
        self.added = dict.fromkeys(batch["inputs"], 0)

    def classifiers(self, m):
        p = self.p
        h = self.batch["inputs"][m] @ p[f"encoders.{m}.weight"].T + p[f"encoders.{m}.bias"]
        layers = [f"fusion.hidden.{m}"]
        layers += [f"fusion.branches.{m}.{k}" for k in range(self.added[m])]
        hidden = [(h @ p[f"{a}.weight"].T + p[f"{a}.bias"]).clamp(min=0) for a in layers]
        return [e @ p["fusion.head.weight"].T + p["fusion.head.bias"] for e in hidden]

    def step(self, names):
        y = self.batch["label"]
        us = {m: self.classifiers(m) for m in names}
        total = sum(loss_of(u, y, self.discount) for u in us.values())
        for p, g in zip(
            self.p.values(),
            torch.autograd.grad(total, [*self.p.values()], allow_unused=True),
            strict=True,
        ):
            if g is not None:
                p.data -= LR * g
        return {m: sum(u).softmax(dim=1)[torch.arange(len(y)), y].mean() for m, u in us.items()}

    def epoch(self, alternating):
        names = [*self.batch["inputs"]]
        scores = {}
        for group in [[m] for m in names] if alternating else [names]:
            scores |= self.step(group)
        best, weakest = max(scores, key=scores.get), min(scores, key=scores.get)
        is_behind = scores[best] - scores[weakest] > self.threshold
        if self.rule == "ratio":
            first, second = sorted((best, weakest), key=names.index)
            is_behind = abs(scores[first] / scores[second] - 1) > self.threshold
        if is_behind and sum(self.added.values()) < 11:
            self.added[weakest] += 1


@pytest.mark.parametrize("num_modalities", [2, 3])
@pytest.mark.parametrize("step", ["joint", "alternating"])
@pytest.mark.parametrize("discount", [0.5, 1.0])
def test_it_trains_on_its_formula(step, num_modalities, discount):
    batch = incomplete_batch(num_modalities, is_complete=True)
    options = {"step": step, "discount": discount, "threshold": 0.0, "check_every": 1}
    module = build_method("aug", batch, **options).double()
    plain = Plain(module, batch, discount=discount)
    fit(module, [batch], epochs=4, precision="64-true")
    for _ in range(4):
        added = dict(plain.added)
        plain.epoch(step == "alternating")
    assert module.fusion.num_added == added
    assert sum(added.values()) == 3
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter, plain.p[name], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_it_trains_with_the_ratio_of_scores(num_modalities):
    """Both modalities are behind at some time, by a ratio and never by as large a difference."""
    batch = incomplete_batch(num_modalities, is_complete=True)
    options = {"rule": "ratio", "step": "alternating", "threshold": 0.03, "check_every": 1}
    module = build_method("aug", batch, **options).double()
    plain = Plain(module, batch, threshold=0.03, rule="ratio")
    fit(module, [batch], epochs=6, precision="64-true")
    for _ in range(6):
        added = dict(plain.added)
        plain.epoch(alternating=True)
    assert module.fusion.num_added == added
    assert min(added.values()) >= 1
    assert max(added.values()) >= 2
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter, plain.p[name], rtol=1e-9, atol=1e-11)
    other = build_method("aug", batch, **options | {"rule": "difference"})
    fit(other, [batch], epochs=6, precision="64-true")
    assert sum(other.fusion.num_added.values()) == 0


def test_the_loss_of_branches_is_the_published_number():
    module = build(AUG, SMALL, batches(1), parts={"num_classes": 3})
    z = [torch.tensor([row]).double() for row in ([1.0, 0.0, 0.0], [0.5, 0.2, 0.0])]
    loss = module.boosted_loss(z, {"label": torch.tensor([0])})
    assert loss.item() == pytest.approx(1.561504, abs=1e-6)


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_alternating_steps_without_branches_are_mla_without_modification(num_modalities):
    data = batches(6, num_modalities)
    weighting = [0.4, 0.6] if num_modalities == 2 else "mean"
    aug = build(AUG, SMALL, data, step="alternating")
    mla = build(MLA, SMALL, data, hgm=False, df=False, static_weighting=weighting)
    assert torch.equal(weights(aug), weights(mla))
    losses = fit(aug, data), fit(mla, data)
    assert losses[0] == losses[1]
    assert torch.equal(weights(aug), weights(mla))
    with torch.no_grad():
        one, other = aug.evaluate_batch(data[0]), mla.evaluate_batch(data[0])
    assert all(torch.equal(one[m], other[m]) for m in one)


def released_loop(module, data):
    """Two steps per batch; gradients are deleted before it and zeroed in between."""
    sgd = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    for batch in data:
        sgd.zero_grad(set_to_none=True)
        for m, x in batch["inputs"].items():
            classifiers = module.fusion.classifiers(m, module.encoders[m](x))
            module.boosted_loss(classifiers, batch).backward()
            sgd.step()
            sgd.zero_grad(set_to_none=False)


def test_zeroed_gradients_let_momentum_move_the_other_encoder():
    data = batches(3)
    ours = build(AUG, SMALL, data, step="alternating", legacy_zero_grad=True)
    plain = build(AUG, SMALL, data, step="alternating")
    fit(ours, data)
    released_loop(plain, data)
    torch.testing.assert_close(weights(ours), weights(plain), rtol=1e-6, atol=1e-7)
    usual = build(AUG, SMALL, data, step="alternating")
    fit(usual, data)
    assert not torch.equal(weights(usual.encoders["audio"]), weights(ours.encoders["audio"]))


def test_a_branch_that_is_not_used_stays_the_same_bits():
    data = batches(3)
    module = build(AUG, SMALL, data, threshold=0.0)
    before = {k: v.clone() for k, v in module.fusion.branches.state_dict().items()}
    fit(module, data, epochs=3)
    added = module.fusion.num_added
    assert sum(added.values()) == 2  # after each epoch but the last
    for key, value in module.fusion.branches.state_dict().items():
        name, number, _ = key.split(".")
        assert torch.equal(value, before[key]) == (int(number) >= added[name])


def test_branches_end_at_their_number_and_are_loaded():
    data = batches(1)
    module = build(AUG, SMALL, data, threshold=0.0)
    fit(module, data, epochs=6)
    assert module.training_stage == sum(module.fusion.num_added.values()) == 3
    again = build(AUG, SMALL, data, seed=1)
    again.load_state_dict(module.state_dict())
    with torch.no_grad():
        one, other = (m.eval().evaluate_batch(data[0])["multi"] for m in (module, again))
    assert torch.equal(one, other)
    assert not module.fusion.add_branch("audio")


def test_comparisons_are_after_the_first_epoch_and_every_tenth():
    data = batches(1)
    for found, options, epochs in (
        ([1, 2, 3, 4, 5, 6, 7], {}, 8),
        ([1, 3, 6, 9, 12, 15, 18, 21, 24, 27], {}, 30),
        ([1, 4], {"check_every": 4}, 8),
    ):
        module = build(AUG, partial(SMALL, num_branches=99), data, threshold=0.0, **options)
        seen, original = [], module.fusion.add_branch
        module.fusion.add_branch = lambda name, m=module, s=seen, add=original: (
            s.append(m.current_epoch) or add(name)
        )
        fit(module, data, epochs=epochs)
        assert seen == found
        assert any("after every epoch" in note for note in module.notes) == (
            not options and epochs < 10
        )


def trained(**options):
    data = batches(4)
    settings = {"threshold": 0.0} | options
    module = build(AUG, SMALL, data, **settings)
    fit(module, data, epochs=4)
    return module


@pytest.mark.parametrize(
    "switch",
    [
        {"step": "alternating"},
        {"discount": 0.0},
        {"threshold": 0.9},
        {"check_every": 3},
        {"released_branches": True},
        {"sigma": 9.0},
    ],
)
def test_a_switch_changes_the_weights(switch):
    assert not torch.equal(weights(trained()), weights(trained(**switch)))


def test_the_ratio_is_beyond_where_the_difference_is_not():
    scores = torch.tensor([0.5, 0.494])
    assert build(AUG, SMALL, batches(1)).behind(scores) is None
    assert build(AUG, SMALL, batches(1), rule="ratio").behind(scores) == 1


def test_released_branches_keep_their_random_weights_and_pass_gradients_on():
    module = trained(released_branches=True)
    untrained = build(AUG, SMALL, batches(4))
    assert sum(module.fusion.num_added.values()) == 3
    state = untrained.fusion.branches.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in module.fusion.branches.state_dict().items())
    assert not torch.equal(module.fusion.head.weight, trained(threshold=0.9).fusion.head.weight)


def test_weights_of_the_fused_logits():
    data = batches(1)
    module = build(AUG, SMALL, data)
    z = module.evaluate_batch(data[0])
    torch.testing.assert_close(z["multi"], 0.4 * z["audio"] + 0.6 * z["visual"])
    z = build(AUG, SMALL, data, weighting="mean").evaluate_batch(data[0])
    torch.testing.assert_close(z["multi"], (z["audio"] + z["visual"]) / 2)
    z = build(AUG, SMALL, batches(1, 3)).evaluate_batch(batches(1, 3)[0])
    torch.testing.assert_close(z["multi"], (z["audio"] + z["visual"] + z["text"]) / 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "differences"}, "Did you mean 'difference'"),
        ({"step": "both"}, "Known: joint, alternating"),
        ({"discount": 1.5}, "discount must be from 0 to 1"),
        ({"threshold": -0.1}, "threshold must be >= 0"),
        ({"threshold": 1.0}, "no modality is further behind"),
        ({"sigma": 0.0}, "sigma must be > 0"),
        ({"rule": "ratio", "sigma": 2.0}, "no effect with method.rule=ratio"),
        ({"legacy_zero_grad": True}, "no effect with method.step=joint.*Use step=alternating"),
        ({"check_every": 0}, "check_every must be at least 1"),
        ({"fusion": partial(Branched, num_branches=0)}, "has no branch to add"),
        ({"fusion": partial(Branched, weighting="mean")}, "set method.weighting"),
        ({"fusion": partial(Branched, num_branches=-1)}, "num_branches must be >= 0"),
        ({"fusion": partial(Branched, hidden=0)}, "hidden must be at least 1"),
        ({"fusion": Concat}, "use fusion@method.fusion=branched"),
    ],
)
def test_a_wrong_setting_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(AUG, options.pop("fusion", Branched), batches(1), **options)


def test_a_fusion_with_branches_trains_jointly_too():
    data = batches(2)
    module = build(Joint, SMALL, data)
    before = weights(module.fusion.hidden).clone()
    fit(module, data)
    assert not torch.equal(weights(module.fusion.hidden), before)
    assert module.evaluate_batch(data[0])["multi"].shape == (8, NUM_CLASSES)
    assert isinstance(module.fusion.head, nn.Linear)
