"""The network of TATE, written out in numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from mla_lightning.fusion.tagged import Tagged

NUM_HEADS, NUM_CLASSES = 4, 3


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


def block(x, layer):
    """A transformer block: attention and two layers, each with a residual and a norm."""
    attention = layer.self_attn
    joined = x @ array(attention.in_proj_weight).T + array(attention.in_proj_bias)
    q, k, v = np.split(joined, 3, axis=2)
    heads, size = [], x.shape[-1] // NUM_HEADS
    for head in range(NUM_HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = q[..., part] @ k[..., part].transpose(0, 2, 1) / np.sqrt(size)
        heads.append(softmax(scores) @ v[..., part])
    x = normed(x + affine(np.concatenate(heads, axis=2), attention.out_proj), layer.norm1)
    hidden = np.maximum(affine(x, layer.linear1), 0)
    return normed(x + affine(hidden, layer.linear2), layer.norm2)


@pytest.mark.parametrize("names", [("audio", "visual"), ("audio", "visual", "text")])
def test_the_network_is_the_published_one(names):
    torch.manual_seed(0)
    num_modalities, size = len(names), 5
    fusion = Tagged(dict.fromkeys(names, 3), NUM_CLASSES, width=16, num_heads=NUM_HEADS).double()
    fusion.eval()
    for parameter in fusion.parameters():
        nn.init.normal_(parameter, std=0.4)
    features = {name: torch.randn(size, 3).double() for name in names}
    present = {name: torch.ones(size, dtype=torch.bool) for name in names}
    present["audio"][:2] = present["visual"][1:3] = False
    missing = np.stack([~array(present[name]) for name in names], axis=1)
    tag = np.concatenate([~missing.any(axis=1, keepdims=True), missing], axis=1).astype(float)
    tokens = []
    for name in names:
        has = array(present[name])[:, None, None]
        x = (array(features[name])[:, None] * has) @ array(fusion.inputs[name].weight).T
        x = block(x, fusion.blocks[name])
        projections = []
        for other in names:
            if other != name:
                pair = "_".join(sorted((name, other), key=names.index))
                projections.append(x @ array(fusion.shared[pair].weight).T)
        tokens.append(np.concatenate(projections, axis=2) * has)
    joined = np.concatenate(tokens, axis=1)
    padding = np.zeros((size, num_modalities, fusion.tagged_width - joined.shape[2] - tag.shape[1]))
    tags = np.repeat(tag[:, None], num_modalities, axis=1)
    joined = np.concatenate([joined, padding, tags], axis=2)
    found, is_token = fusion.tokens_of(features, present)
    assert is_token is None
    np.testing.assert_allclose(array(found), joined, atol=1e-12)
    encoding = block(joined, fusion.encode)
    np.testing.assert_allclose(array(fusion.encode_tokens(found)), encoding, atol=1e-10)
    decoding = array(fusion.decode_tokens(fusion.encode_tokens(found)))
    np.testing.assert_allclose(decoding, block(encoding, fusion.decode), atol=1e-10)
    gates = [encoding @ array(gate.weight).T for gate in (fusion.gate_u, fusion.gate_m)]
    scores = (gates[0] / (1 + np.exp(-gates[1]))) @ array(fusion.gate_r.weight).T
    pooled = (softmax(scores[..., 0])[..., None] * encoding).sum(axis=1)
    logits = pooled @ array(fusion.hidden.weight).T @ array(fusion.classifier.weight).T
    logits = logits + array(fusion.classifier.bias)
    np.testing.assert_allclose(array(fusion(features, present)), logits, atol=1e-10)


def test_dropout_is_that_of_a_standard_block_in_training_alone():
    fusion = Tagged({"audio": 3, "visual": 3}, NUM_CLASSES, width=16, dropout=0.3)
    for layer in (*fusion.blocks.values(), fusion.encode, fusion.decode):
        rates = [layer.self_attn.dropout, layer.dropout.p, layer.dropout1.p, layer.dropout2.p]
        assert rates == [0.3] * 4
    features = {name: torch.randn(5, 3) for name in ("audio", "visual")}
    assert not torch.equal(fusion(features), fusion(features))
    fusion.eval()
    assert torch.equal(fusion(features), fusion(features))
