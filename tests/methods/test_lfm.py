"""LFM: weights of alignment and classification, and the divergence that is aligned."""

import copy
import math

import pytest
import torch
from tests.methods.harness import NUM_CLASSES, Linear, Loader, batches, build, fit, weights
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from mla_lightning.errors import ConfigError
from mla_lightning.functional import fitted_classification_weight
from mla_lightning.fusion import Concat, late
from mla_lightning.methods import LFM, LateFusion
from mla_lightning.tasks import Classification


def build_lfm(data, fusion=late.LateFusion, parts=None, **options):
    held_out = batches(2, len(data[0]["inputs"]), seed=5, size=6)
    given = {"held_out_batches": lambda: Loader(held_out)}
    return build(LFM, fusion, data, parts=given | (parts or {}), **options)


def probabilities(z):
    e = z.exp()
    return e / e.sum(dim=1, keepdim=True)


def kl(p, q):
    return (p * (p / q).log()).sum(dim=1).mean()


def plain_losses(own, label, kind="js"):
    """The cross-entropy of the mean logits, and the mean divergence over pairs."""
    ps, gaps = [probabilities(z) for z in own], []
    for i in range(len(ps)):
        for j in range(i):
            p, q, m = ps[i], ps[j], (ps[i] + ps[j]) / 2
            pairs = ((p, m), (q, m)) if kind == "js" else ((m, p), (m, q))
            gaps.append(sum(0.5 * kl(*pair) for pair in pairs))
    return cross_entropy(sum(own) / len(own), label), sum(gaps) / len(gaps)


def own_logits(encoders, fusion, batch):
    return [
        encoders[m](batch["inputs"][m]) @ fusion.heads[m].weight.T + fusion.heads[m].bias
        for m in encoders
    ]


@pytest.mark.parametrize(("kind", "fitted_epochs"), [("js", None), ("released", 200), ("js", 8)])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_three_steps_are_those_of_a_plain_loop(num_modalities, kind, fitted_epochs):
    data = batches(1, num_modalities)
    module = build_lfm(data, divergence=kind, fitted_epochs=fitted_epochs)
    plain = copy.deepcopy(module)
    losses = fit(module, data, epochs=3)
    parameters = [*plain.encoders.parameters(), *plain.fusion.parameters()]
    sgd = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-2)
    for epoch, reported in enumerate(losses):
        sgd.zero_grad()
        own = own_logits(plain.encoders, plain.fusion, data[0])
        joint, gap = plain_losses(own, data[0]["label"], kind)
        first = fitted_classification_weight(200 * epoch / (fitted_epochs or 3))
        (2 * (first * joint + (1 - first) * gap)).backward()
        sgd.step()
        assert reported["joint"] == pytest.approx(2 * first * joint.item(), rel=1e-5)
        assert reported["gap"] == pytest.approx(2 * (1 - first) * gap.item(), rel=1e-4)
    torch.testing.assert_close(weights(module), weights(plain), rtol=1e-5, atol=1e-6)


def explicit_curvature(module, scope, a_2):
    """The mean of H g by the whole Hessian of all held-out samples at once."""
    held_out = list(module.parts.held_out_batches())
    inputs = {m: torch.cat([b["inputs"][m] for b in held_out]) for m in module.modalities}
    label = torch.cat([batch["label"] for batch in held_out])
    net = nn.ModuleDict({"encoders": module.encoders, "fusion": module.fusion}).double()
    names, values = zip(*net.named_parameters(), strict=True)
    sizes = [v.numel() for v in values]

    def losses(flat):
        of_name = {
            n: part.view_as(v) for n, part, v in zip(names, flat.split(sizes), values, strict=True)
        }
        own = []
        for m in module.modalities:
            part = {
                k.removeprefix(f"encoders.{m}."): v
                for k, v in of_name.items()
                if k.startswith(f"encoders.{m}.")
            }
            h = functional_call(module.encoders[m], part, (inputs[m].double(),))
            own.append(
                h @ of_name[f"fusion.heads.{m}.weight"].T + of_name[f"fusion.heads.{m}.bias"]
            )
        return plain_losses(own, label)

    flat = torch.cat([v.detach().flatten() for v in values])
    gradient = torch.autograd.functional.jacobian(lambda x: losses(x)[0], flat)
    total = lambda x: (1 - a_2) * losses(x)[0] + a_2 * losses(x)[1]  # noqa: E731
    product = torch.autograd.functional.hessian(total, flat) @ gradient
    return float(product[: sizes[0]].mean() if scope == "first" else product.mean())


@pytest.mark.parametrize("scope", ["all", "first"])
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_the_learnable_weight_follows_the_whole_hessian(num_modalities, scope):
    data = batches(1, num_modalities)
    module = build_lfm(data, weight="learnable", scope=scope)
    states = []
    original = module._curvature

    def recorded():
        if not states:  # at the start of the training
            module.lowered.fill_(0.3)  # away from the bound
        nets = copy.deepcopy((module.encoders, module.fusion))
        states.append((*nets, original(), float(module.lowered)))
        return states[-1][2]

    module._curvature = recorded
    fit(module, data, epochs=3)
    for encoders, fusion, curvature, lowered in states:
        plain = build_lfm(data)
        plain.encoders, plain.fusion = encoders, fusion
        expected = explicit_curvature(plain, scope, 0.95 - lowered)
        assert curvature == pytest.approx(expected, rel=1e-3, abs=1e-8)
        assert abs(expected) > 1e-6
    (*_, start), (*_, first, before), (*_, second, between) = states
    assert start == before == pytest.approx(0.3)  # there is no step before the first epoch
    assert between - before == pytest.approx(1e-4 * first, rel=0.02, abs=1e-7)
    assert float(module.lowered) - between == pytest.approx(1e-4 * second, rel=0.02, abs=1e-7)


def test_the_batches_of_held_out_samples_do_not_matter_with_class_weights():
    data, found = batches(1), []
    held_out = batches(1, seed=5, size=12)[0]
    parts = {"task": Classification(class_weights=torch.tensor([1.0, 7.0, 2.0, 0.2]))}
    for sizes in ([12], [5, 7], [1, 2, 9]):
        rows = torch.arange(12).split(sizes)
        cut = [
            {
                **held_out,
                "inputs": {m: x[some].double() for m, x in held_out["inputs"].items()},
                "label": held_out["label"][some],
            }
            for some in rows
        ]
        module = build_lfm(data, weight="learnable", parts=parts).double()
        module.held_out_batches = lambda cut=cut: cut
        found.append(module._curvature())
    assert found[0] != 0
    assert found[1:] == pytest.approx(found[:1] * 2, rel=1e-9)


def test_the_rate_is_halved_and_the_weight_bounded(monkeypatch):
    for curvature, bound in ((1e5, 0.05), (-1e5, 0.95)):
        monkeypatch.setattr(LFM, "_curvature", lambda self, c=curvature: c)
        data = batches(1)
        module = build_lfm(data, weight="learnable")
        fit(module, data, epochs=2)
        assert module.loss_weights()[1] == pytest.approx(bound)
        assert sum(module.loss_weights()) == pytest.approx(1)
    monkeypatch.setattr(LFM, "_curvature", lambda self: 1.0)
    module = build_lfm(data, weight="learnable")
    fit(module, data, epochs=42)
    expected = 1e-4 * (19 + 20 / 2 + 2 / 4)
    assert float(module.lowered) == pytest.approx(expected, rel=1e-5)


def test_without_alignment_it_is_late_fusion_by_the_fused_loss_with_twice_the_gradient(monkeypatch):
    data = batches(3)
    half = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.1)}
    whole = {"optimizer": lambda parameters: torch.optim.SGD(parameters, lr=0.2)}
    module = build_lfm(data, weight="constant", alignment_weight=0.0, parts=half)
    other = build(LateFusion, late.LateFusion, data, joint_weight=1.0, parts=whole)
    monkeypatch.setattr(type(other.parts), "unimodal_losses", lambda *args: {})
    fit(module, data, epochs=2)
    fit(other, data, epochs=2)
    torch.testing.assert_close(weights(module), weights(other), rtol=1e-6, atol=1e-7)


def ends(**options):
    data = batches(2)
    module = build_lfm(data, **options)
    fit(module, data, epochs=2)
    return weights(module)


def test_every_setting_has_an_effect():
    constant = {"weight": "constant"}
    results = [
        ends(),
        ends(divergence="released"),
        ends(fitted_epochs=200),
        ends(**constant, alignment_weight=0.3),
        ends(**constant, alignment_weight=0.5),
        ends(weight="learnable"),
        ends(parts={"task": Classification(class_weights=torch.tensor([1.0, 2.0, 3.0, 4.0]))}),
    ]
    for number, result in enumerate(results):
        assert not any(torch.equal(result, other) for other in results[:number])


def test_without_clipping_the_weight_of_the_alignment_is_negative(monkeypatch):
    monkeypatch.setattr(LFM, "current_epoch", 180)
    for clip, low in ((True, 0.0), (False, -0.02)):
        module = build_lfm(batches(1), fitted_epochs=200, clip_weight=clip)
        first, second = module.loss_weights()
        assert first + second == pytest.approx(1)
        assert low <= second <= 0
        assert (second < 0) is not clip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight": "fited"}, "method.weight='fited' is unknown. Did you mean 'fitted'"),
        ({"divergence": "kl"}, "method.divergence='kl' is unknown"),
        ({"scope": "last"}, "method.scope='last' is unknown"),
        ({"weight": "constant"}, "needs method.alignment_weight from 0 to below 1, got None"),
        ({"weight": "constant", "alignment_weight": 1.0}, "got 1.0"),
        ({"alignment_weight": 0.5}, "method.alignment_weight has no effect.*use weight=constant"),
        ({"weight": "learnable", "clip_weight": False}, "clip_weight has no effect.*weight=fitted"),
        ({"fitted_epochs": 0}, "method.fitted_epochs must be at least 1, got 0"),
        (
            {"weight": "learnable", "fitted_epochs": 200},
            "fitted_epochs has no effect.*weight=fitted",
        ),
        ({"scope": "first"}, "method.scope has no effect.*use weight=learnable"),
        ({"fusion": Concat}, r"Use fusion@method\.fusion=late with weighting=mean"),
        (
            {"fusion": lambda *args: late.LateFusion(*args, weighting="mean_probability")},
            "weighting=mean",
        ),
        ({"weight": "learnable", "parts": {"held_out_batches": None}}, r"Set data\.held_out=0\.1"),
    ],
)
def test_wrong_settings_say_what_to_use(options, message):
    with pytest.raises(ConfigError, match=message):
        build_lfm(batches(1), **options)


def test_a_run_beyond_the_end_of_the_fit_is_an_error():
    data = batches(1)
    with pytest.raises(ConfigError, match=r"max_epochs=201.*fitted_epochs=200 epochs\..*=null"):
        fit(build_lfm(data, fitted_epochs=200), data, epochs=201)


class Bag(nn.EmbeddingBag):
    out_features = 6

    def __init__(self):
        super().__init__(10, 6)

    def forward(self, x):
        return super().forward((x.abs() * 3).long().clamp(max=9))


class Attention(nn.Module):
    out_features = 4

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        h = self.layer(x)[:, None]
        return self.attention(h, h, h, need_weights=False)[0][:, 0]


@pytest.mark.filterwarnings("default")  # the compiler's own libraries are deprecated here and there
def test_compiled_encoders_are_refused_where_second_derivatives_are_needed():
    def compiled():
        encoder = Linear()
        encoder.compile()
        return encoder

    data = batches(1)
    build_lfm(data, encoder=compiled)
    with pytest.raises(ConfigError, match=r"compiled encoders.*Use trainer\.compile=false, or"):
        build_lfm(data, weight="learnable", encoder=compiled)


@pytest.mark.parametrize(
    "words",
    [
        "torch.compile with aot_autograd does not currently support double backward",
        "This backward function was compiled with ... which requires create_graph=False and",
    ],
)
def test_a_layer_that_is_compiled_by_itself_is_an_error_at_the_start(words):
    class Compiled(Linear):
        def forward(self, x):
            h = super().forward(x)
            if torch.is_grad_enabled():
                h.register_hook(fail)
            return h

    def fail(gradient):
        raise RuntimeError(words)

    data = batches(1)
    with pytest.raises(ConfigError, match=r"needs second derivatives.*Use weight=fitted"):
        fit(build_lfm(data, weight="learnable", encoder=Compiled), data)


def test_a_layer_without_second_derivatives_is_an_error_at_the_start():
    data = batches(1)
    module = build_lfm(data, weight="learnable", encoder=Bag)
    with pytest.raises(ConfigError, match=r"needs second derivatives.*Use weight=fitted"):
        fit(module, data)
    module = build_lfm(data, weight="learnable", encoder=Attention)
    fit(module, data, epochs=2)
    assert math.isfinite(float(module.lowered))
    assert module.parts.num_classes == NUM_CLASSES
