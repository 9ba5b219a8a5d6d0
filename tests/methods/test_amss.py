"""AMSS against a plain loop of its formula; its switches, equivalences and refusals."""

import math

import pytest
import torch
from tests.methods.catalogue import SIZE, build_method, incomplete_batch
from tests.methods.harness import Conv, Linear, batches, build, fit, weights
from torch import nn
from torch.nn.functional import cross_entropy

import mla_lightning.methods.amss as rule
from mla_lightning.encoders import CAVMAEAudio
from mla_lightning.errors import ConfigError
from mla_lightning.fusion import Concat, ConcatHeads, Sum
from mla_lightning.methods import AMSS, Joint
from mla_lightning.randomness import derive_seed
from mla_lightning.tasks import Multilabel

LR = 0.05


class Convolution(nn.Module):
    """Has parameters of four, two and one axes."""

    out_features = 8

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(1, 6, (1, 5)), nn.Linear(6, 8)

    def forward(self, x):
        return self.linear(self.conv(x[:, None, None]).flatten(1).tanh())


class Wide(nn.Sequential):
    """Has so many filters that small changes of a share change their number."""

    out_features = 80

    def __init__(self):
        super().__init__(Conv(), nn.Linear(6, 80))


def entropy(p):
    return -sum(q * math.log(q) for q in p if q > 0)


def drawn(importance, keep, *, is_corrected):
    """Factors of one draw: the keys of a draw without replacement are log(u) / share."""
    n = len(importance)
    share = [x / sum(importance) for x in importance]
    keys = [math.log(u) / q for u, q in zip(UNIFORM.pop(0), share, strict=True)]
    kept = sorted(range(n), key=lambda f: -keys[f])[: math.ceil(n * keep)]
    value = [1 / (q + 1 / n) if is_corrected else 1.0 for q in share]
    return torch.tensor([value[f] if f in kept else 0.0 for f in range(n)], dtype=torch.float64)


UNIFORM = []  # random numbers of the next draws


def plain_loop(module, data, *, min_axes, is_corrected=False, masks_head=False, offset=0.5, T=0.2):
    """The algorithm, written without functions of the package; return the shares."""
    optimizer, shares = torch.optim.SGD(module.parameters(), lr=LR), []
    names = module.modalities
    for number, batch in enumerate(data):
        y, head = batch["label"], module.fusion.head
        optimizer.zero_grad()
        features = {m: module.encoders[m](x) for m, x in batch["inputs"].items()}
        cross_entropy(head(torch.cat([*features.values()], dim=1)), y).backward()
        columns = dict(zip(names, head.weight.detach().chunk(len(names), dim=1), strict=True))
        numerators, rates = [], []
        counts = [int((y == c).sum()) for c in y.unique()]
        for m, h in features.items():
            h = h.detach()
            loss = cross_entropy(h @ columns[m].T + head.bias.detach() / len(names), y)
            numerators.append(entropy([c / SIZE for c in counts]) + offset - float(loss))
            of_rows = [entropy(row) for row in h.softmax(dim=1).tolist()]
            rates.append(numerators[-1] / (sum(of_rows) / SIZE))
        exps = [math.exp(rate / T) for rate in rates]
        keep = [min(max(1 - e / sum(exps), 0.1), 0.9) for e in exps]
        if min(numerators) <= 0:
            keep = [0.5] * len(names)
        shares.append(keep)
        torch.manual_seed(derive_seed(module.parts.seed, "batch", 0, number))
        start = 0
        for m, of_m in zip(names, keep, strict=True):
            for parameter in module.encoders[m].parameters():
                if parameter.ndim < min_axes:
                    continue
                squares = [float((row**2).sum()) for row in parameter.grad]
                UNIFORM.append(torch.rand(len(squares), dtype=torch.float64).tolist())
                factors = drawn(squares, of_m, is_corrected=is_corrected)
                for row, factor in zip(parameter.grad, factors, strict=True):
                    row *= factor
            width = features[m].shape[1]
            if masks_head:
                gradient = head.weight.grad[:, start : start + width]
                UNIFORM.extend(torch.rand(gradient.shape, dtype=torch.float64).tolist())
                for row in gradient:
                    row *= drawn((row**2).tolist(), of_m, is_corrected=is_corrected)
            start += width
        optimizer.step()
    return shares


@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        ({"param_filter": "conv"}, {"min_axes": 4}),
        (
            {"param_filter": "ndim>=2", "unbiased": True, "mask_head": True, "offset": 2.0},
            {"min_axes": 2, "is_corrected": True, "masks_head": True, "offset": 2.0},
        ),
        ({"param_filter": "ndim>=2", "temperature": 0.05}, {"min_axes": 2, "T": 0.05}),
    ],
)
@pytest.mark.parametrize("num_modalities", [2, 3])
def test_amss_is_its_formula(num_modalities, settings, plain):
    data = [incomplete_batch(num_modalities, is_complete=True, seed=s) for s in range(3)]

    def built():
        torch.manual_seed(3)
        encoders = {name: Convolution() for name in data[0]["inputs"]}
        return build_method("amss", data[0], encoders=encoders, **settings)

    ours, other = built(), built().double()
    fit(ours, data, precision="64-true")
    shares = plain_loop(other, data, **plain)
    assert any(keep != [0.5] * num_modalities for keep in shares)
    for keep in shares:
        if len(set(keep)) > 1 and 0.1 not in keep and 0.9 not in keep:
            assert sum(keep) == pytest.approx(num_modalities - 1)
    torch.testing.assert_close(weights(ours), weights(other), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("mask_head", [False, True])
def test_all_filters_are_concat(mask_head, monkeypatch):
    def all_of(losses, *args):
        return torch.ones_like(losses)

    monkeypatch.setattr(rule, "keep_ratios", all_of)
    data = batches(3)
    ours = build(AMSS, Concat, data, encoder=Conv, mask_head=mask_head)
    other = build(Joint, Concat, data, encoder=Conv)
    assert fit(ours, data, epochs=2) == fit(other, data, epochs=2)
    assert torch.equal(weights(ours), weights(other))


class Edited:
    """Keeps the gradients of the last step after they are edited."""

    def __init__(self, module):
        self.module = module
        module.step_observer = self

    def before_step(self, name):
        pass

    def after_step(self):
        pass

    def record_gradient(self, kind):
        self.gradients = {n: p.grad.clone() for n, p in self.module.named_parameters()}


@pytest.mark.parametrize("mask_head", [False, True])
def test_masks_leave_the_drawn_number_of_filters_and_columns(mask_head, monkeypatch):
    def fixed(losses, *args):
        return losses.new_tensor([0.2, 0.7])

    monkeypatch.setattr(rule, "keep_ratios", fixed)
    data = batches(1)
    module = build(AMSS, Concat, data, encoder=Conv, mask_head=mask_head)
    edited = Edited(module)
    fit(module, data)
    numbers = {"audio": 2, "visual": 5}  # of 6, rounded up
    for name, number in numbers.items():
        filters = edited.gradients[f"encoders.{name}.conv.weight"].flatten(1)
        assert int((filters != 0).any(dim=1).sum()) == number
        assert bool((edited.gradients[f"encoders.{name}.conv.bias"] != 0).all())
    for name, columns in module.fusion.columns(edited.gradients["fusion.head.weight"]).items():
        in_each_row = (columns != 0).sum(dim=1).tolist()
        assert in_each_row == [numbers[name] if mask_head else 6] * 4


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.02},
        {"offset": 1.5},
        {"unbiased": True},
        {"label_entropy": "released"},
        {"mask_head": True},
        {"param_filter": "conv"},
    ],
)
def test_every_setting_of_amss_changes_the_weights(settings):
    data, found = batches(6, seed=1), []
    for batch in data:
        batch["inputs"]["audio"] *= 4  # so that the entropies of the features differ
        batch["label"] = batch["label"] // 2 * 3  # and those of the labels, by their rules
    for options in ({}, settings):
        options = {"param_filter": "ndim>=2", "offset": 1.0} | options
        module = build(AMSS, Concat, data, encoder=Wide, **options)
        fit(module, data)
        found.append(weights(module))
    assert not torch.equal(*found)


def test_other_seeds_draw_other_filters():
    data, found = batches(2), []
    for seed in (0, 0, 1):
        module = build(AMSS, Concat, data, encoder=Conv, parts={"seed": seed})
        fit(module, data)
        found.append(weights(module))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, r"temperature must be > 0"),
        ({"offset": -1.0}, r"offset must be >= 0"),
        ({"label_entropy": "release"}, r"is unknown.*Did you mean 'released'.*true, released"),
        ({"label_entropy": False}, r"label_entropy=False is unknown"),
        ({"param_filter": "all"}, r"param_filter='all' is unknown.*Known: ndim>=2, conv"),
    ],
)
def test_amss_refuses(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(AMSS, Concat, batches(1), encoder=Conv, **settings)


def test_amss_needs_concat_filters_and_classes():
    data = batches(1)
    for fusion in (Sum, ConcatHeads):
        with pytest.raises(ConfigError, match=r"AMSS takes each modality's columns.*=concat\."):
            build(AMSS, fusion, data, encoder=Conv)
    with pytest.raises(ConfigError, match=r"selects no trained.*Use param_filter=ndim>=2"):
        build(AMSS, Concat, data, param_filter="conv")
    with pytest.raises(ConfigError, match=r"not for multilabel.*entropy of classes.*Use method="):
        build(AMSS, Concat, data, encoder=Conv, parts={"task": Multilabel()})


def notes_of(module):
    return [note for note in module.notes if note.startswith("AMSS ")]


def test_without_a_filter_convolutions_are_masked_where_they_are_most_of_the_weights():
    class Mostly(Convolution):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 4)  # 24 weights beside 30
            self.out_features = 4

    found = build(AMSS, Concat, batches(1), encoder=Mostly)
    assert [[p.ndim for p in of_one] for of_one in found.masked.values()] == [[4], [4]]
    assert not notes_of(found)
    found = build(AMSS, Concat, batches(1), encoder=Convolution)  # 48 linear weights beside 30
    assert [[p.ndim for p in of_one] for of_one in found.masked.values()] == [[4, 2], [4, 2]]
    (note,) = notes_of(found)
    assert "rows of linear weights, too, in audio and visual" in note


def test_without_a_filter_linear_weights_are_masked_where_no_encoder_has_a_convolution():
    data, found = batches(3), []
    for options in ({}, {"param_filter": "ndim>=2"}):
        module = build(AMSS, Concat, data, **options)
        fit(module, data)
        found.append(weights(module))
        notes = ["rows of linear weights" in note for note in module.notes]
        assert notes == ([] if options else [True])
    assert torch.equal(*found)


def test_without_a_filter_each_encoder_has_its_own():
    made = iter([Conv, Linear])
    module = build(AMSS, Concat, batches(1), encoder=lambda: next(made)())
    assert [[p.ndim for p in of_one] for of_one in module.masked.values()] == [[4], [2]]
    (note,) = notes_of(module)
    assert "too, in visual: convolutions" in note


def test_an_encoder_of_which_nothing_is_masked_is_noted():
    made = iter([Conv, Linear, Conv, lambda: Linear().requires_grad_(False)])
    for options in ({"param_filter": "conv"}, {}):
        module = build(AMSS, Concat, batches(1), encoder=lambda: next(made)(), **options)
        assert [len(of_one) for of_one in module.masked.values()] == [1, 0]
        assert notes_of(module) == ["AMSS masks no weight of the encoder of visual"]


@pytest.mark.parametrize("param_filter", [None, "ndim>=2"])
def test_embeddings_are_not_masked_as_their_rows_are_words(param_filter):
    class Words(nn.Module):
        out_features = 4

        def __init__(self, has_linear):
            super().__init__()
            self.embedding = nn.EmbeddingBag(10, 4)
            self.out = nn.Linear(4, 4) if has_linear else nn.Identity()

    for has_linear in (True, False):
        made = iter([Linear(), Words(has_linear)])
        module = build(
            *(AMSS, Concat, batches(1)),
            encoder=lambda made=made: next(made),
            param_filter=param_filter,
        )
        own = [module.encoders["visual"].out.weight] if has_linear else []
        assert all(one is other for one, other in zip(module.masked["visual"], own, strict=True))
    assert "AMSS masks no weight of the encoder of visual" in module.notes
    with pytest.raises(ConfigError, match="these encoders train embeddings alone"):
        build(AMSS, Concat, batches(1), encoder=lambda: Words(False), param_filter=param_filter)


@pytest.mark.filterwarnings("ignore:.*in eval mode")  # of frozen layers
@pytest.mark.parametrize("tune", ["all", "last_1"])
def test_a_transformer_with_a_convolution_for_patches_is_masked_in_its_linear_weights(tune):
    def transformer():
        return CAVMAEAudio(
            num_frames=16, num_mels=16, width=32, depth=2, num_heads=2, gelu="exact", tune=tune
        )

    data = batches(2)
    for batch in data:
        batch["inputs"] = {m: x.repeat(1, 52)[:, :256] for m, x in batch["inputs"].items()}
        batch["inputs"] = {m: x.view(-1, 16, 16) for m, x in batch["inputs"].items()}
    found = []
    for method in (AMSS, Joint):
        module = build(method, Concat, data, encoder=transformer, lr=0.01)
        fit(module, data)
        found.append(weights(module))
    assert not torch.equal(*found)
    module = build(AMSS, Concat, data, encoder=transformer)
    assert "rows of linear weights, too, in audio and visual" in notes_of(module)[0]
    trained = [p for p in module.encoders["audio"].parameters() if p.requires_grad and p.ndim >= 2]
    masked = module.masked["audio"]
    assert len(masked) == len(trained) > 3
    assert all(one is other for one, other in zip(masked, trained, strict=True))
    if tune == "last_1":
        with pytest.raises(ConfigError, match=r"selects no trained parameter"):
            build(AMSS, Concat, data, encoder=transformer, param_filter="conv")
