"""InfoReg: regulation of the modality that leads, against a plain loop."""

import math
from functools import partial

import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import Conv, batches, build, fit, weights
from torch import nn

from mla_lightning.errors import ConfigError
from mla_lightning.functional import regulation_strengths
from mla_lightning.fusion import Concat
from mla_lightning.methods import InfoReg, Joint, JointUnimodal

LR = 0.5
STRONG = partial(build, InfoReg, Concat, lr=LR)


def own_logits(module, batch):
    head, count = module.fusion.head, len(module.encoders)
    columns = dict(zip(module.encoders, head.weight.chunk(count, dim=1), strict=True))
    return {
        m: e(batch["inputs"][m]) @ columns[m].T + head.bias / count
        for m, e in module.encoders.items()
    }


def nll(z, y):
    return z.exp().sum(dim=1).log() - z[torch.arange(len(y)), y]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta": 0.5, "delta": "mean", "window": 1, "threshold": 0.0},
        {"scale": {"audio": 0.95, "visual": 0.1, "text": 0.4}, "unimodal_weight": 1.0},
        {"trace_of": "visual", "window": 2, "threshold": -0.01},
    ],
    ids=str,
)
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_the_steps_are_those_of_the_algorithm(num_modalities, options):
    data = [incomplete_batch(num_modalities, is_complete=True, seed=seed) for seed in range(3)]
    names = [*data[0]["inputs"]]
    options = dict(options)
    if "scale" in options:
        options["scale"] = {m: options["scale"][m] for m in names}
    settings = {"optimizer": partial(torch.optim.SGD, lr=LR)} | options
    ours = build_method("inforeg", data[0], **settings)
    plain = build_method("inforeg", data[0], **settings).double()
    fit(ours, data, epochs=4, precision="64-true")
    optimizer = torch.optim.SGD(plain.parameters(), lr=LR)
    beta, window = options.get("beta", 1.0), options.get("window", 10)
    history = {m: [] for m in names}
    num_pulled = 0
    for epoch in range(4):
        start = {m: [p.detach().clone() for p in e.parameters()] for m, e in plain.encoders.items()}
        growth = {}
        for m, t in history.items():
            earlier = t[epoch - 1 - window] if epoch - 1 - window >= 0 else 0.0
            last = t[max(epoch - window, 0) :]
            growth[m] = (t[-1] - earlier) / sum(last) if epoch else 1.0
            t.append(0.0)
        for batch in data:
            optimizer.zero_grad()
            own, y = own_logits(plain, batch), batch["label"]
            loss = nll(sum(own.values()), y).mean()
            loss = loss + options.get("unimodal_weight", 0.0) * sum(
                nll(z, y).mean() for z in own.values()
            )
            loss.backward()
            scores = {m: float((-nll(z, y)).exp().sum().detach()) for m, z in own.items()}
            for m, encoder in plain.encoders.items():
                lead = scores[m] - sum(s for j, s in scores.items() if j != m) / (len(names) - 1)
                if options.get("delta") == "mean":
                    lead /= len(y)
                decides = options.get("trace_of") or m
                if lead > 0 and growth[decides] > options.get("threshold", 0.05):
                    strength = math.exp(beta * math.tanh(lead))
                    strength *= options["scale"][m] if "scale" in options else 1.0
                    for p, p0 in zip(encoder.parameters(), start[m], strict=True):
                        p.grad += strength * (p.detach() - p0)
                        num_pulled += bool((p.detach() != p0).any())
                history[m][-1] += float(encoder.weight.grad.square().mean())
            optimizer.step()
    assert num_pulled > 4
    for key, value in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(key), value, rtol=1e-8, atol=1e-10)
    for row, m in enumerate(names):
        assert float(ours.trace[row]) == pytest.approx(history[m][-1], rel=1e-5)
        known = torch.tensor(history[m][:-1][-(window + 1) :])
        torch.testing.assert_close(ours.traces[row][-len(known) :].float(), known.float())


def never(module):
    module.threshold = math.inf
    return module


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_a_window_that_never_opens_is_joint_training(num_modalities):
    data = batches(3, num_modalities)
    joint, regulated = build(Joint, Concat, data, lr=LR), never(STRONG(data))
    assert fit(joint, data, epochs=2) == fit(regulated, data, epochs=2)
    assert torch.equal(weights(joint), weights(regulated))
    joint = build(JointUnimodal, Concat, data, lr=LR)
    regulated = never(STRONG(data, unimodal_weight=1.0))
    fit(joint, data, epochs=2)
    fit(regulated, data, epochs=2)
    assert torch.equal(weights(joint), weights(regulated))


def test_the_first_step_of_an_epoch_is_not_regulated():
    data = batches(1)
    joint, regulated = build(Joint, Concat, data, lr=LR), STRONG(data)
    fit(joint, data, epochs=3)
    fit(regulated, data, epochs=3)
    assert torch.equal(weights(joint), weights(regulated))


@pytest.mark.parametrize(
    "options",
    [
        {"window": 1},
        {"threshold": 0.9},
        {"beta": 0.1},
        {"scale": {"audio": 0.1, "visual": 0.2}},
        {"delta": "mean"},
        {"unimodal_weight": 1.0},
    ],
    ids=str,
)
def test_every_setting_has_an_effect(options):
    data = batches(3, seed=1)
    usual, other = STRONG(data), STRONG(data, **options)
    fit(usual, data, epochs=4)
    fit(other, data, epochs=4)
    assert not torch.equal(weights(usual), weights(other))


def test_the_pull_is_added_to_the_gradient():
    """By the factor of the released code, of a lead of 0.3."""
    module = STRONG(batches(1), scale={"audio": 0.95, "visual": 0.1})
    bias = module.encoders["audio"][0].bias
    move = torch.tensor([0.1, -0.1, 0.0, 0.0, 0.0, 0.0])
    with torch.no_grad():
        bias += move
    bias.grad = torch.tensor([0.2, -0.1, 0.0, 0.0, 0.0, 0.0])
    strengths = regulation_strengths(torch.tensor([1.3, 1.0], dtype=torch.float64), 1.0)
    module._pull_back("audio", float(strengths[0]))
    assert bias.grad.tolist() == pytest.approx([0.327127, -0.227127, 0, 0, 0, 0], abs=1e-6)


def test_the_modality_whose_trace_decides():
    data, grown = batches(1), []
    for name in ("audio", "visual"):
        module = STRONG(data, trace_of=name)
        module.prepared_epoch.fill_(0)
        module.trace.copy_(torch.tensor([1.0, 4.0]))
        module.traces[:, -1] = torch.tensor([3.0, 4.0])
        module.prepare_epoch()
        grown.append(module.growth.tolist())
    assert grown == [[0.25, 0.25], [0.5, 0.5]]


def test_a_new_training_begins_with_its_own_window():
    data = batches(2)
    old, new = STRONG(data), STRONG(data)
    fit(old, data, epochs=3)
    new.load_state_dict(old.state_dict())
    fit(new, data, epochs=1)
    assert new.growth.tolist() == [1, 1]
    assert not new.traces.any()


def test_the_trace_is_of_weights_after_the_pull_and_survives_an_overflow():
    data = batches(2)
    module = build(InfoReg, Concat, data, encoder=Conv)
    assert [p.ndim for p in module.measured["audio"]] == [4]
    assert [p.ndim for p in module.regulated["audio"]] == [4, 1]
    module.measured["audio"][0].grad = torch.full_like(module.measured["audio"][0], torch.inf)
    module._measure()
    assert module.trace.tolist() == [0.0, 0.0]


def test_frozen_weights_are_neither_kept_nor_pulled():
    class Frozen(nn.Linear):
        def __init__(self):
            super().__init__(5, 6)
            self.requires_grad_(False)

    data = batches(2)
    made = iter([Frozen, Conv])
    module = build(InfoReg, Concat, data, encoder=lambda: next(made)())
    assert module.start.weights("audio") == []
    fit(module, data, epochs=2)
    assert module.growth[0] == 0
    assert module.growth[1] > 0


class Bias(nn.Module):
    """An encoder whose only parameter has one axis."""

    out_features = 5

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(5))

    def forward(self, x):
        return x + self.bias


def with_bias_alone(*names, **options):
    """Build InfoReg with encoders of which some have no matrix."""
    data = batches(2)
    encoders = iter([Bias() if m in names else nn.Linear(5, 5) for m in data[0]["inputs"]])
    return STRONG(data, encoder=lambda: next(encoders), **options), data


def test_an_encoder_without_matrices_is_noted_and_regulated_in_the_first_epoch_alone():
    module, data = with_bias_alone("audio")
    (note,) = module.notes
    assert note == (
        "The encoder of 'audio' has no weight of two or more axes, by whose gradients InfoReg "
        "measures information: it is regulated in the first epoch alone. method.trace_of lets the "
        "information of another modality decide: visual"
    )
    fit(module, data, epochs=2)
    assert module.growth.tolist() == [0, 1]
    assert not with_bias_alone("audio", trace_of="visual")[0].notes
    assert not with_bias_alone("audio", threshold=-0.1)[0].notes  # regulated in all epochs
    assert not with_bias_alone()[0].notes
    encoders = iter([Bias().requires_grad_(False), nn.Linear(5, 5)])
    frozen = STRONG(batches(1), encoder=lambda: next(encoders))
    assert not frozen.notes  # there is nothing to regulate


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (("audio", "visual"), {}, r"^The encoders have no weight .*Use method=concat, or"),
        (("audio",), {"trace_of": "audio"}, r"^method\.trace_of=audio: .*have one: visual$"),
    ],
)
def test_without_any_information_it_is_refused(names, options, message):
    with pytest.raises(ConfigError, match=message):
        with_bias_alone(*names, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window must be >= 1"),
        ({"threshold": 1.0}, "threshold must be below 1.*Use method=concat"),
        ({"beta": -1.0}, "beta must be >= 0"),
        ({"unimodal_weight": -1.0}, "unimodal_weight must be >= 0"),
        ({"delta": "max"}, "delta must be sum or mean"),
        ({"trace_of": "vidual"}, "not a modality.*visual"),
        ({"scale": {"audio": 1.0}}, "a factor > 0 for each modality: audio, visual"),
        ({"scale": {"audio": 1.0, "visual": 0.0}}, "a factor > 0"),
        ({"scale": {"audio": 1.0, "visual": 1.0}, "beta": 2.0}, "Use beta=1"),
    ],
)
def test_settings_that_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        STRONG(batches(1), **options)
