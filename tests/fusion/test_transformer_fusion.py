"""The late-fusion transformer: written out in numpy, masks, any order and number of modalities."""

import re

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from mla_lightning.errors import ConfigError
from mla_lightning.functional.sequences import sinusoidal_positions
from mla_lightning.fusion import TransformerFusion

NAMES, DIMS, NUM_CLASSES, SIZE, NUM_HEADS = ("audio", "visual", "text"), (3, 5, 4), 3, 6, 4
KINDS = {
    "all": {},
    "after": {"norm_first": False},
    "bottlenecks": {"num_bottlenecks": 2},
    "late": {"num_bottlenecks": 3, "fusion_layer": 1},
}


def built(num_modalities=3, names=NAMES, double=True, **options):
    torch.manual_seed(0)
    dims = dict(zip(NAMES, DIMS, strict=True))
    dims = {name: dims[name] for name in names[:num_modalities]}
    options = {"width": 16, "num_layers": 2, "num_heads": NUM_HEADS, **options}
    fusion = TransformerFusion(dims, NUM_CLASSES, **options)
    for parameter in fusion.parameters():
        nn.init.normal_(parameter, std=0.3)
    return (fusion.double() if double else fusion).eval()


def inputs(num_modalities=3, steps=(None, 4, None)):
    """Features of one token each, or sequences, of which some are shorter."""
    rng = torch.Generator().manual_seed(1)
    features = {}
    for name, width, length in list(zip(NAMES, DIMS, steps, strict=True))[:num_modalities]:
        shape = (SIZE, width) if length is None else (SIZE, length, width)
        features[name] = torch.randn(shape, generator=rng, dtype=torch.float64)
        if length is not None:
            features[name][0, 2:] = features[name][1, 1:] = 0
    present = {name: torch.ones(SIZE, dtype=torch.bool) for name in features}
    present["audio"][[1, 3]] = False
    present["visual"][[2, 4]] = False
    return features, present


def array(x):
    return x.detach().numpy()


def softmax(x):
    p = np.exp(x - x.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def normed(x, layer):
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
    return centred / deviation * array(layer.weight) + array(layer.bias)


def affine(x, layer):
    return x @ array(layer.weight).T + array(layer.bias)


def attention(x, layer):
    joined = x @ array(layer.in_proj_weight).T + array(layer.in_proj_bias)
    size, heads = x.shape[-1] // NUM_HEADS, []
    q, k, v = np.split(joined, 3, axis=-1)
    for head in range(NUM_HEADS):
        part = slice(head * size, (head + 1) * size)
        heads.append(softmax(q[:, part] @ k[:, part].T / np.sqrt(size)) @ v[:, part])
    return affine(np.concatenate(heads, axis=-1), layer.out_proj)


def block(x, layer):
    mlp = lambda h: affine(np.maximum(affine(h, layer.linear1), 0), layer.linear2)  # noqa: E731
    if layer.norm_first:
        x = x + attention(normed(x, layer.norm1), layer.self_attn)
        return x + mlp(normed(x, layer.norm2))
    x = normed(x + attention(x, layer.self_attn), layer.norm1)
    return normed(x + mlp(x), layer.norm2)


def position(t, width):
    angles = [t / 10_000 ** (2 * k / width) for k in range(width // 2)]
    return np.array([f(a) for a in angles for f in (np.sin, np.cos)])


def tokens_of(fusion, name, feature):
    """The tokens of one sample and modality: padding is cut off."""
    if feature.ndim == 1:
        return affine(feature, fusion.projections[name])[None]
    real = [t for t in range(len(feature)) if feature[t].any()]
    rows = [affine(feature[t], fusion.projections[name]) for t in real]
    return np.stack([row + position(t, len(row)) for t, row in zip(real, rows, strict=True)])


def logits_of(fusion, sample):
    """The logits of one sample, a dict of its present modalities alone."""
    tokens = {m: tokens_of(fusion, m, h) for m, h in sample.items()}
    start = array(fusion.class_token)[None]
    final = (lambda x: normed(x, fusion.norm)) if "norm.weight" in fusion.state_dict() else np.array
    if not fusion.num_bottlenecks:
        x = np.concatenate([start, *tokens.values()])
        for layer in fusion.layers:
            x = block(x, layer)
        return affine(final(x[:1]), fusion.head)[0]
    x = {m: np.concatenate([start, t]) for m, t in tokens.items()}
    shared = array(fusion.bottlenecks)
    for number in range(2):
        layers = {m: fusion.layers_of[m][number] for m in x}
        if number < fusion.fusion_layer:
            x = {m: block(v, layers[m]) for m, v in x.items()}
            continue
        out = {m: block(np.concatenate([v, shared]), layers[m]) for m, v in x.items()}
        x = {m: v[: -len(shared)] for m, v in out.items()}
        shared = sum(v[-len(shared) :] for v in out.values()) / len(out)
    return sum(affine(final(v[:1]), fusion.head)[0] for v in x.values()) / len(x)


@pytest.mark.parametrize("num_modalities", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_that_of_its_formulas_on_present_tokens_alone(kind, num_modalities):
    fusion = built(num_modalities, **KINDS[kind])
    features, present = inputs(num_modalities)
    expected = [
        logits_of(fusion, {m: array(h[i]) for m, h in features.items() if present[m][i]})
        for i in range(SIZE)
    ]
    for context in (torch.enable_grad, torch.inference_mode):
        with context():
            found = fusion(features, present)
        np.testing.assert_allclose(array(found), expected, atol=1e-10)
    own = fusion.unimodal(features)
    for name, h in features.items():
        alone = [logits_of(fusion, {name: array(h[i])}) for i in range(SIZE)]
        np.testing.assert_allclose(array(own[name]), alone, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_absent_modality_holds_reaches_nothing(kind):
    fusion = built(double=False, **KINDS[kind])
    features, present = inputs()
    present["text"][3] = False
    features = {m: h.float() for m, h in features.items()}
    features["visual"][5] = 0  # present, and nothing but padding
    present["audio"][5] = False

    def outcome(filling, is_half):
        filled = {
            m: torch.where(present[m].view(-1, *[1] * (h.ndim - 1)), h, filling).requires_grad_()
            for m, h in features.items()
        }
        fusion.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            fused = fusion(filled, present)
        fused.square().sum().backward()
        grads = [x.grad for x in filled.values()] + [p.grad for p in fusion.parameters()]
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            return [fused.detach(), fusion(filled, present), *grads]

    for is_half in (False, True):
        expected = outcome(0.0, is_half)
        assert all(bool(value.isfinite().all()) for value in expected)
        for filling in (torch.nan, torch.inf, 1e30):
            for one, other in zip(expected, outcome(filling, is_half), strict=True):
                assert torch.equal(one, other)
        assert all(
            not grad[~present[m]].any() for m, grad in zip(NAMES, expected[2:5], strict=True)
        )


@pytest.mark.parametrize("kind", KINDS)
def test_a_modality_that_is_absent_everywhere_changes_nothing(kind):
    two, three = built(2, **KINDS[kind]), built(3, **KINDS[kind])
    three.load_state_dict(two.state_dict(), strict=False)
    features, present = inputs()
    present["text"][:] = False
    both = {m: features[m] for m in NAMES[:2]}, {m: present[m] for m in NAMES[:2]}
    assert_close(three(features, present), two(*both), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_modalities_changes_nothing(kind):
    one = built(**KINDS[kind])
    other = built(names=("text", "audio", "visual"), **KINDS[kind])
    other.load_state_dict(one.state_dict())
    features, present = inputs()
    shuffled = {m: features[m] for m in ("visual", "text", "audio")}
    assert_close(other(shuffled, present), one(features, present), rtol=0, atol=1e-12)
    assert_close(other.unimodal(shuffled)["text"], one.unimodal(features)["text"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_complete_batch_needs_no_masks_and_an_empty_sample_gives_finite_logits(kind):
    fusion = built(**KINDS[kind])
    features, present = inputs()
    everything = {m: torch.ones_like(has) for m, has in present.items()}
    assert_close(fusion(features), fusion(features, everything), rtol=0, atol=1e-12)
    nothing = {m: torch.zeros_like(has) for m, has in present.items()}
    assert bool(fusion(features, nothing).isfinite().all())


def test_every_setting_changes_something():
    features, present = inputs()
    usual = {"num_bottlenecks": 2}
    base = built(**usual)(features, present)
    for change in (
        {"width": 8},
        {"num_layers": 3},
        {"num_heads": 2},
        {"mlp_ratio": 1.0},
        {"norm_first": False},
        {"num_bottlenecks": 3},
        {"num_bottlenecks": 0},
        {"fusion_layer": 1},
    ):
        assert not torch.allclose(built(**usual | change)(features, present), base), change
    training = built(dropout=0.5).train()
    assert not torch.equal(training(features), training(features))
    assert torch.equal(built(dropout=0.0).train()(features), built()(features))


def test_positions_tell_steps_apart_and_are_not_those_of_padding():
    fusion = built()
    features, _ = inputs()
    features["visual"] = features["visual"][2:]
    features = {m: h[-4:] for m, h in features.items()}
    backwards = {**features, "visual": features["visual"].flip(1)}
    assert not torch.allclose(fusion(backwards), fusion(features))
    longer = {**features, "visual": nn.functional.pad(features["visual"], (0, 0, 0, 3))}
    assert_close(fusion(longer), fusion(features), rtol=0, atol=1e-12)
    odd = sinusoidal_positions(5, 7)
    assert odd.shape == (5, 7)
    np.testing.assert_allclose(sinusoidal_positions(5, 8)[3].numpy(), position(3, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10}, "width 10 is no multiple of num_heads 4. Use width 8 or 12"),
        ({"num_layers": 0}, "num_layers >= 1"),
        ({"num_heads": 0}, "num_heads >= 1"),
        ({"mlp_ratio": 0.0}, "mlp_ratio > 0"),
        ({"dropout": 1.0}, "dropout must be in [0, 1), got 1.0"),
        ({"num_bottlenecks": -1}, "num_bottlenecks >= 0"),
        ({"num_bottlenecks": 1, "fusion_layer": 2}, "0 <= fusion_layer < num_layers"),
        ({"fusion_layer": 1}, "fusion_layer=1 has no effect without bottlenecks"),
    ],
)
def test_settings_out_of_range_are_errors(options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        built(**options)
