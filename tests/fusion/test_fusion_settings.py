"""Settings of fusions have the effect that they say, and weights start as published."""

import pytest
import torch
from torch.testing import assert_close

from mla_lightning.functional import linear_svc
from mla_lightning.fusion import (
    Concat,
    EnergyFusion,
    InvariantCodes,
    LateFusion,
    LatentCodes,
    PaddedFusion,
    SharedHead,
)
from mla_lightning.fusion.base import linear
from mla_lightning.fusion.cross_partial import CrossPartial
from mla_lightning.fusion.tagged import Tagged

DIMS = {"audio": 4, "image": 4}


def test_the_bias_of_concat_is_shared_or_whole():
    features = {name: torch.zeros(1, 4) for name in DIMS}
    for rule, share in (("slice", 0.5), ("zero_feature", 1.0)):
        fusion = Concat(DIMS, 3, unimodal_rule=rule)
        fusion.head.bias.data = torch.tensor([2.0, -4.0, 6.0])
        expected = share * fusion.head.bias.detach()[None]
        for logits in fusion.unimodal(features).values():
            assert torch.equal(logits, expected)


def test_heads_start_xavier_normal_without_bias():
    torch.manual_seed(0)
    layer = linear(300, 100)
    assert layer.weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
    assert layer.weight.abs().max() > 3 * (2 / 400) ** 0.5  # not uniform
    assert not layer.bias.any()


def test_codes_and_decoders_of_cpm_start_glorot_uniform():
    torch.manual_seed(0)
    fusion = CrossPartial({"audio": 90}, 3, num_latent=30)
    fusion.allocate_codes(70)
    for values, limit in ((fusion.weights["audio"], (6 / 120) ** 0.5), (fusion.codes, 0.06**0.5)):
        assert limit * 0.98 < values.abs().max() <= limit
        assert values.std().item() == pytest.approx(limit / 3**0.5, rel=0.05)


@pytest.mark.parametrize("fusion", [LatentCodes, InvariantCodes])
@pytest.mark.parametrize("num_blocks", [1, 3])
def test_codes_have_the_last_width_for_each_block(fusion, num_blocks):
    built = fusion(DIMS, 3, layers=(6, 5), num_blocks=num_blocks, hidden=(7,))
    assert built.imagination.latent_width == 5 * num_blocks
    assert len(built.imagination.encoders) == len(built.imagination.decoders) == num_blocks
    hidden = [m for m in built.classifier if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in hidden] == [(5 * num_blocks, 7), (7, 3)]


@pytest.mark.parametrize("fusion", [LatentCodes, InvariantCodes])
def test_a_cascade_has_activations_between_its_layers_and_none_at_its_end(fusion):
    cascade = next(m for m in fusion(DIMS, 3, layers=(6, 5)).modules() if hasattr(m, "encoders"))
    for stack, widths in ((cascade.encoders[0], (8, 6, 5)), (cascade.decoders[0], (5, 6, 8))):
        first, activation, last = stack
        assert isinstance(activation, torch.nn.ReLU | torch.nn.LeakyReLU)
        assert (first.in_features, first.out_features, last.out_features) == widths


def test_invariant_features_are_two_layers_with_a_slope_of_a_hundredth():
    fusion = InvariantCodes(DIMS, 3, layers=(6, 5))
    for layer in fusion.shared[::2]:
        layer.weight.data, layer.bias.data = torch.eye(4), torch.zeros(4)
    x = {"audio": torch.tensor([[1.0, -1.0, 0.0, 2.0]]), "image": torch.zeros(1, 4)}
    assert_close(fusion.invariant(x), torch.tensor([[1.0, -1e-4, 0, 2, 0, 0, 0, 0]]))
    assert fusion.full_classifier[0].in_features == 2 * 8


@pytest.mark.parametrize("rate", [0.05, 0.3])
def test_the_first_step_to_a_code_moves_each_entry_by_the_learning_rate(rate):
    torch.manual_seed(0)
    fusion = CrossPartial({"audio": 6}, 3, num_latent=2, num_test_steps=1, test_lr=rate)
    fusion.allocate_codes(9)
    x = torch.randn(4, 6)
    h = fusion.codes.detach().mean(dim=0).repeat(4, 1).requires_grad_()
    (h @ fusion.weights["audio"] + fusion.biases["audio"] - x).square().sum().backward()
    codes = fusion.find_codes({"audio": x})
    assert_close(codes, h.detach() - rate * h.grad.sign(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("cost", [0.002, 5.0])
def test_the_padded_head_is_a_support_vector_classifier_of_its_cost(cost):
    generator = torch.Generator().manual_seed(0)
    label = torch.arange(30) % 3
    features = {
        name: torch.eye(3, 4)[label] + torch.randn(30, 4, generator=generator) for name in DIMS
    }
    fusion = PaddedFusion(DIMS, 3, svc_c=cost)
    fusion.fit_head(features, None, label)
    weight, bias = linear_svc(torch.cat([*features.values()], dim=1), label, 3, cost)
    assert_close(fusion.head.weight.detach(), weight.float(), atol=1e-5, rtol=1e-4)
    assert_close(fusion.head.bias.detach(), bias.float(), atol=1e-5, rtol=1e-4)


def test_only_an_empty_sequence_keeps_its_first_step():
    fusion = Tagged({"audio": 4, "text": 4}, 3, width=12).eval()
    x = torch.randn(3, 3, 4)
    x[0, 0] = 0  # padding before the first word
    x[1, 2] = 0  # padding after the last one
    x[2] = 0
    _, is_token = fusion.tokens_of({"audio": x, "text": torch.randn(3, 4)})
    assert is_token[:, :3].tolist() == [
        [False, True, True],
        [True, True, False],
        [True, False, False],
    ]
    assert is_token[:, 3].all()


@pytest.mark.parametrize(
    ("fusion", "options"),
    [
        (EnergyFusion, {}),
        (SharedHead, {"weighting": "entropy"}),
        (SharedHead, {"weighting": (0.2, 0.8)}),
        (LateFusion, {"weighting": "batch_entropy"}),
    ],
)
@pytest.mark.parametrize("is_complete", [True, False])
def test_fused_logits_are_the_weighted_sum_of_the_logits(fusion, options, is_complete):
    torch.manual_seed(0)
    built = fusion(DIMS, 3, **options)
    features = {name: 3 * torch.randn(6, 4) for name in DIMS}
    present = None
    if not is_complete:
        audio = torch.tensor([True, True, False, False, True, True])
        present = {"audio": audio, "image": ~audio | (torch.arange(6) > 4)}
    logits = built.unimodal(features)
    weights = built.logit_weights(logits, present)
    assert weights.shape == (2, 6)
    expected = sum(weights[row][:, None] * z for row, z in enumerate(logits.values()))
    assert_close(built(features, present), expected)
    if present is not None:
        assert not weights[0][~present["audio"]].any()
        assert not weights[1][~present["image"]].any()
