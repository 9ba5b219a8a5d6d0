"""ReconBoost against a plain loop of its formulas, and its switches, errors and shared head."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from tests.methods.catalogue import build_method, incomplete_batch
from tests.methods.harness import batches, build, fit, weights
from tests.train.jobs import make_job
from torch import nn

from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Branched, Concat, SharedHead
from mla_lightning.methods import MLA, ReconBoost
from mla_lightning.run.train import train_job
from mla_lightning.run_folder import read_metrics

pytestmark = pytest.mark.filterwarnings("ignore:.*in eval mode")

LR, MOMENTUM, DECAY = 0.05, 0.9, 1e-2
SGD = partial(torch.optim.SGD, lr=LR, momentum=MOMENTUM, weight_decay=DECAY)
EPOCHS = {"teacher_epochs": 1, "stage_epochs": 1, "rectify_epochs": 1}
SMALL = partial(SharedHead, hidden=5)


def nll(z, y):
    return z.exp().sum(dim=1).log() - z[torch.arange(len(y)), y]


def logits_of(p, batch, m):
    h = batch["inputs"][m] @ p[f"encoders.{m}.weight"].T + p[f"encoders.{m}.bias"]
    e = (h @ p["fusion.hidden.weight"].T + p["fusion.hidden.bias"]).clamp(min=0)
    return e @ p["fusion.head.weight"].T + p["fusion.head.bias"]


def turn_loss(p, batch, m, before, options):
    y, names = batch["label"], [*batch["inputs"]]
    own = {k: logits_of(p, batch, k) for k in names}
    others = (p["beta"] * sum(own[k] for k in names if k != m)).detach()
    o = others.exp() / others.exp().sum(dim=1, keepdim=True)
    rows = torch.arange(len(y))
    weight = options["label_weight"] - options["others_weight"] * o[rows, y]
    loss = (weight * nll(own[m], y)).mean() / own[m].shape[1]
    if before is None or options.get("agreement") != "own":
        return loss
    gap = own[m].softmax(dim=1) - own[before].detach().softmax(dim=1)
    return loss + options["agreement_weight"] * (gap**2).mean()


def descend(p, names, loss, velocity):
    for name, g in zip(
        names, torch.autograd.grad(loss, [p[n] for n in names], allow_unused=True), strict=True
    ):
        if g is None:
            continue
        g = g + DECAY * p[name].detach()
        velocity[name] = g if name not in velocity else MOMENTUM * velocity[name] + g
        p[name].data -= LR * velocity[name]


def plain_loop(state, batch, num_batches, options):
    """The turns from a student's first weights on; an epoch has the same batch several times."""
    p = {k: v.clone().requires_grad_() for k, v in state.items()}
    names, shared = [*batch["inputs"]], [k for k in p if k.startswith("fusion.")]
    for turn, m in enumerate(names):
        velocity = {}
        trained = [k for k in p if k.startswith(f"encoders.{m}.")] + shared
        before = names[turn - 1] if turn else None
        for _ in range(num_batches * options["stage_epochs"]):
            descend(p, trained, turn_loss(p, batch, m, before, options), velocity)
        velocity = {}
        for _ in range(num_batches * options["rectify_epochs"]):
            z = p["beta"] * sum(logits_of(p, batch, k) for k in names)
            descend(p, [*p], nll(z, batch["label"]).mean(), velocity)
    return p


@pytest.mark.parametrize("num_modalities", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label_weight": 4.0, "others_weight": 0.0, "rectify_epochs": 0},
        {"agreement": "own", "agreement_weight": 2.0, "beta": 0.7},
    ],
)
def test_it_trains_on_its_formula(num_modalities, options):
    batch = incomplete_batch(num_modalities, is_complete=True)
    options = {**EPOCHS, "label_weight": 5.0, "others_weight": 1.0} | options
    module = build_method("reconboost", batch, optimizer=SGD, **options)
    first, original = {}, module.start_student

    def start():
        original()
        first.update({k: v.detach().clone() for k, v in module.named_parameters()})

    module.start_student = start
    num_epochs = 1 + num_modalities * (1 + options["rectify_epochs"])
    fit(module, [batch, batch], epochs=num_epochs, precision="64-true")
    for m in batch["inputs"]:  # starts from unimodal encoders
        taught = module.teachers["encoders"][m].weight
        assert torch.equal(first[f"encoders.{m}.weight"], taught)
    kept = ("encoders.", "fusion.", "beta")
    plain = plain_loop({k: v for k, v in first.items() if k.startswith(kept)}, batch, 2, options)
    for name, expected in plain.items():
        found = dict(module.named_parameters())[name]
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


class Normed(nn.Module):
    """A linear layer with a batch normalisation without weights."""

    out_features = 8

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(5, 8), nn.BatchNorm1d(8, affine=False)

    def forward(self, x):
        return self.norm(self.linear(x))


def test_in_a_turn_all_encoders_normalise_by_the_batch_and_move_their_statistics(monkeypatch):
    batch = incomplete_batch(2, is_complete=True)
    encoders, states, original = {m: Normed() for m in batch["inputs"]}, [], ReconBoost.fit_student
    options = {**EPOCHS, "label_weight": 5.0, "others_weight": 1.0}
    module = build_method("reconboost", batch, optimizer=SGD, encoders=encoders, **options)

    def recorded(self, batch):
        states.append({k: v.detach().clone() for k, v in self.state_dict().items()})
        return original(self, batch)

    monkeypatch.setattr(ReconBoost, "fit_student", recorded)
    losses = fit(module, [batch], epochs=5, precision="64-true")
    before, after = states[:2]  # the turn of audio has one step
    h = {}
    for m, x in batch["inputs"].items():
        h[m] = x @ before[f"encoders.{m}.linear.weight"].T + before[f"encoders.{m}.linear.bias"]
        for key, value in (("mean", h[m].mean(dim=0)), ("var", h[m].var(dim=0))):
            old, new = (state[f"encoders.{m}.norm.running_{key}"] for state in (before, after))
            torch.testing.assert_close(new, 0.9 * old + 0.1 * value)
            assert not torch.equal(new, old)
        h[m] = (h[m] - h[m].mean(dim=0)) / (h[m].var(dim=0, unbiased=False) + 1e-5).sqrt()
    identity = {f"encoders.{m}.weight": torch.eye(8).double() for m in h}
    p = before | identity | {f"encoders.{m}.bias": torch.zeros(8).double() for m in h}
    expected = turn_loss(p, {"inputs": h, "label": batch["label"]}, "audio", None, options)
    assert losses[1] == {"audio": pytest.approx(float(expected))}


def test_without_discount_and_rectification_it_is_unimodal_training_of_a_shared_head():
    data = batches(3)
    options = EPOCHS | {"rectify_epochs": 0, "label_weight": 4.0, "others_weight": 0.0}
    module = build(ReconBoost, SMALL, data, **options)
    encoders, fusion, original = {}, {}, module.start_student

    def start():
        original()
        encoders.update({k: v.clone() for k, v in module.encoders.state_dict().items()})
        fusion.update({k: v.clone() for k, v in module.fusion.state_dict().items()})

    module.start_student = start
    fit(module, data, epochs=3)
    other = build(ReconBoost, SMALL, data, **options)
    other.encoders.load_state_dict(encoders)
    other.fusion.load_state_dict(fusion)
    for name in ("audio", "visual"):
        trained = [*other.encoders[name].parameters(), *other.fusion.parameters()]
        optimizer = torch.optim.SGD(trained, lr=0.1, momentum=0.9, weight_decay=1e-2)
        for batch in data:
            optimizer.zero_grad()
            z = other.fusion.unimodal(other.features(batch))[name]
            nn.functional.cross_entropy(z, batch["label"]).backward()
            optimizer.step()
    for one, two in ((module.encoders, other.encoders), (module.fusion, other.fusion)):
        torch.testing.assert_close(weights(one), weights(two), rtol=1e-5, atol=1e-6)


def watched(epochs=5, **options):
    """Train; return the module, the state before each epoch, and which epochs are selectable."""
    data = batches(2)
    module = build(ReconBoost, SMALL, data, **EPOCHS | options)
    states, selectable, original = [], [], module.on_train_epoch_end

    def end():
        original()
        states.append({k: v.clone() for k, v in module.state_dict().items()})
        selectable.append(module.is_selectable)

    module.on_train_epoch_end = end
    module.recorded = fit(module, data, epochs=epochs)
    return module, states, selectable


def test_a_turn_leaves_the_other_encoders_and_beta_alone():
    _, states, selectable = watched(epochs=6)
    assert selectable == [False, False, True, False, True, False]
    assert [int(state["is_taught"]) for state in states] == [0, 1, 2, 3, 4, 5]
    moved = [
        {key.partition(".0.")[0] for key in before if not torch.equal(before[key], after[key])}
        for before, after in pairwise(states)
    ]
    shared = {"fusion.head.weight", "fusion.head.bias"}
    shared |= {f"fusion.hidden.{key}" for key in ("weight", "bias")}
    both = {"encoders.audio", "encoders.visual"}
    second = [changed - {"is_taught"} for changed in moved[1:]]
    assert second == [
        shared | both | {"beta"},
        shared | {"encoders.visual"},
        shared | both | {"beta"},
        shared | {"encoders.audio"},
    ]


def test_epochs_that_are_no_whole_turn_are_noted():
    assert any("last 1 epochs are no whole turn" in note for note in watched(epochs=6)[0].notes)
    assert not watched()[0].notes


def test_the_fused_logits_are_beta_times_the_sum():
    data = batches(1)
    module = watched()[0].eval()
    assert module.beta.item() != 1.0
    z = module.evaluate_batch(data[0])
    torch.testing.assert_close(z["multi"], module.beta * (z["audio"] + z["visual"]))


def test_an_agreement_without_gradients_changes_its_report_alone():
    plain, detached = watched()[0], watched(agreement="both_detached")[0]
    own = watched(agreement="own")[0]
    assert torch.equal(weights(plain), weights(detached))
    assert not torch.equal(weights(plain), weights(own))
    assert not torch.equal(weights(own), weights(watched(agreement="own", agreement_weight=9.0)[0]))
    reported = ["agreement" in losses for losses in detached.recorded]
    assert reported == [False] * 6 + [True] * 2 + [False] * 2  # from the second turn on


@pytest.mark.parametrize(
    "switch",
    [{"label_weight": 2.0}, {"others_weight": 0.0}, {"beta": 2.0}, {"rectify_epochs": 0}],
)
def test_a_switch_changes_the_weights(switch):
    assert not torch.equal(weights(watched()[0]), weights(watched(**switch)[0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage_epochs": 0}, "stage_epochs must be at least 1"),
        ({"rectify_epochs": -1}, "rectify_epochs >= 0"),
        ({"others_weight": 5.0}, "others_weight=5.0 must be >= 0 and below"),
        ({"others_weight": -1.0}, "must be >= 0"),
        ({"agreement": "owned"}, "Did you mean 'own'"),
        ({"agreement_weight": 1.0}, "no effect with method.agreement=none"),
        ({"agreement": "own", "agreement_weight": 0.0}, "agreement_weight must be > 0"),
        ({"beta": 0.0}, "beta must be > 0"),
        ({"teacher_epochs": 0}, "teacher_epochs must be >= 1"),
        ({"fusion": Concat}, "use fusion@method.fusion=shared_head"),
        ({"fusion": Branched}, "use fusion@method.fusion=shared_head"),
        ({"fusion": partial(SharedHead, weighting="entropy")}, "no effect on ReconBoost"),
        ({"fusion": partial(SharedHead, hidden=0)}, "hidden must be at least 1"),
    ],
)
def test_a_wrong_setting_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(ReconBoost, options.pop("fusion", SMALL), batches(1), **options)


def test_a_training_without_a_turn_of_each_modality_is_refused():
    data = batches(1)
    module = build(ReconBoost, SMALL, data, **EPOCHS | {"rectify_epochs": 2})
    with pytest.raises(ConfigError, match=r"5 of trainer.max_epochs=6 .* which need 6"):
        fit(module, data, epochs=6)


def test_a_modality_of_another_width_is_trained_with_its_adapter():
    data = batches(2)
    module = build(ReconBoost, partial(SharedHead, hidden=5, dim=4), data, **EPOCHS)
    trained = set(module.trained_in(1))
    assert set(module.fusion.adapters["audio"].parameters()) <= trained
    assert not set(module.fusion.adapters["visual"].parameters()) & trained
    assert module.beta not in trained
    assert module.trained_in(0) is module.trained_in(2) is None


def test_with_the_models_of_a_run_all_epochs_are_turns(tmp_path):
    unimodal = make_job(tmp_path, "method=unimodal")
    train_job(unimodal)
    words = ("method.stage_epochs=1", "method.rectify_epochs=1", "trainer.max_epochs=4")
    folder = f"method.teachers='{unimodal.run_dir}'"
    job = make_job(tmp_path, "method=reconboost", *words, folder)
    train_job(job)
    trained = [
        {key.removeprefix("train/loss/") for key in row if key.startswith("train/loss/")}
        for row in read_metrics(job.run_dir)
    ]
    assert trained == [{"audio"}, {"joint"}, {"visual"}, {"joint"}]


def test_mla_projects_the_last_layer_of_a_head_with_a_hidden_layer():
    """By that layer's own input; the hidden layer's gradient is left as it is."""
    data = batches(3)
    module = build(MLA, SMALL, data, projection="owm")
    steps = []

    class Observer:
        def before_step(self, name):
            pass

        def after_step(self):
            pass

        def record_gradient(self, kind):
            found = {k: p.grad.clone() for k, p in module.fusion.named_parameters()}
            projector = module.projectors["shared"].clone()
            steps.append((kind, found, projector))

    module.step_observer = Observer()
    fit(module, data)
    assert len(steps) == 2 * 6
    for (_, raw, projector), (_, edited, _) in zip(steps[2::2], steps[3::2], strict=True):
        assert projector.shape == (5, 5)
        expected = raw["head.weight"] @ projector
        torch.testing.assert_close(edited["head.weight"], expected, rtol=1e-5, atol=1e-7)
        assert not torch.allclose(edited["head.weight"], raw["head.weight"])
        for key in ("hidden.weight", "hidden.bias"):
            assert torch.equal(edited[key], raw[key])
