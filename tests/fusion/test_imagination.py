"""Fusions that impute or reconstruct absent modalities: numbers computed by hand, properties."""

import pytest
import torch

from mla_lightning.errors import ConfigError
from mla_lightning.fusion import (
    AutoencodedFusion,
    CanonicalFusion,
    CrossPartial,
    InvariantCodes,
    LatentCodes,
    PaddedFusion,
    Tagged,
)
from mla_lightning.fusion.imagination import InvariantCascade, ResidualCascade

EYE = torch.eye(2)


def with_simple_weights(cascade):
    """Set every encoder to the identity and every decoder to half of it."""
    with torch.no_grad():
        for name, parameter in cascade.named_parameters():
            if parameter.ndim == 1:
                parameter.zero_()
            else:
                parameter.copy_(0.5 * EYE if name.startswith("decoders") else EYE)
    return cascade


def test_the_residual_cascade_is_the_published_recursion():
    cascade = with_simple_weights(ResidualCascade(2, [2], 2))
    output, codes = cascade(torch.tensor([[1.0, 2]]))
    assert output.tolist() == [[2.25, 4.5]]
    assert codes.tolist() == [[1, 2, 1.5, 3]]


@pytest.mark.parametrize(
    ("variant", "expected_output", "expected_codes"),
    [("head", [1, 0.5], [2, 2, 2, 1]), ("2022", [4.5, 3], [2, 2, 3, 2])],
)
def test_the_invariant_cascade_has_its_two_published_forms(
    variant, expected_output, expected_codes
):
    cascade = with_simple_weights(InvariantCascade(2, [2], 2, variant))
    output, codes = cascade.imagine(torch.tensor([[1.0, 2]]), torch.tensor([[1.0, 0]]))
    assert output.tolist() == [expected_output]
    assert codes.tolist() == [expected_codes]
    with pytest.raises(ConfigError, match="variant must be"):
        InvariantCascade(2, [2], 2, "2023")


DIMS = {"audio": 4, "image": 4, "text": 4}
FUSIONS = [
    AutoencodedFusion(DIMS, 3, layers=(6, 4)),
    AutoencodedFusion(DIMS, 3, layers=(6, 4), num_blocks=2),
    LatentCodes(DIMS, 3, layers=(6, 4), num_blocks=2),
    InvariantCodes(DIMS, 3, layers=(6, 4), num_blocks=2),
    PaddedFusion(DIMS, 3),
    CanonicalFusion(DIMS, 3, num_components=2),
    Tagged(DIMS, 3, width=12),
]


def with_random_buffers(fusion):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for buffer in fusion.buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.randn(buffer.shape, generator=generator))
    return fusion.eval()


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: type(f).__name__)
def test_features_of_absent_modalities_have_no_effect(fusion):
    fusion = with_random_buffers(fusion)
    generator = torch.Generator().manual_seed(1)
    features = {m: torch.randn(5, 4, generator=generator) for m in DIMS}
    present = {m: torch.rand(5, generator=generator) < 0.6 for m in DIMS}
    present["audio"][:] = True
    fused = fusion(features, present)
    assert fused.shape == (5, 3)
    poisoned = {m: torch.where(present[m][:, None], x, float("nan")) for m, x in features.items()}
    assert torch.equal(fusion(poisoned, present), fused)
    assert not torch.allclose(fusion(features), fused)
    true = torch.ones(5, dtype=torch.bool)
    image_only = {m: true if m == "image" else ~true for m in DIMS}
    torch.testing.assert_close(fusion.unimodal(features)["image"], fusion(features, image_only))


def test_codes_do_not_depend_on_the_batch_and_decode_present_modalities():
    torch.manual_seed(0)
    fusion = CrossPartial(DIMS, 3, num_latent=5, num_test_steps=400)
    fusion.allocate_codes(12)
    fusion.label.copy_(torch.arange(12) % 3)
    true_codes = torch.randn(6, 5)
    with torch.no_grad():
        x = {m: true_codes @ fusion.weights[m] + fusion.biases[m] for m in DIMS}
    present = {m: torch.arange(6) % 3 != i for i, m in enumerate(DIMS)}
    codes = fusion.find_codes(x, present)
    two = {m: v[2:4] for m, v in x.items()}
    present_two = {m: v[2:4] for m, v in present.items()}
    torch.testing.assert_close(
        fusion.find_codes(two, present_two), codes[2:4], atol=1e-5, rtol=1e-5
    )
    for name in DIMS:
        rows = present[name]
        decoded = codes[rows] @ fusion.weights[name] + fusion.biases[name]
        assert (decoded - x[name][rows]).abs().max() < 0.05
    poisoned = {m: torch.where(present[m][:, None], v, float("nan")) for m, v in x.items()}
    assert torch.equal(fusion.find_codes(poisoned, present), codes)


def test_the_tag_encodes_which_modalities_are_missing():
    fusion = Tagged(DIMS, 3, width=12)
    present = {
        "audio": torch.tensor([True, False]),
        "image": torch.tensor([True, True]),
        "text": torch.tensor([True, False]),
    }
    assert fusion.tag(present, 2, torch.device("cpu")).tolist() == [[1, 0, 0, 0], [0, 1, 0, 1]]
    assert fusion.tag(None, 1, torch.device("cpu")).tolist() == [[1, 0, 0, 0]]
    features = {m: torch.randn(2, 4) for m in DIMS}
    tokens, is_token = fusion.tokens_of(features, present)
    assert is_token is None
    assert tokens.shape == (2, 3, fusion.tagged_width)
    assert tokens[1, 0, :-4].abs().sum() == 0  # audio is absent in the second sample
    assert tokens[1, 1, :-4].abs().sum() > 0


def test_a_fitted_head_separates_separable_classes():
    fusion = PaddedFusion(DIMS, 3)
    label = torch.arange(60) % 3
    generator = torch.Generator().manual_seed(0)
    features = {
        m: 4 * torch.eye(3, 4)[label] + torch.randn(60, 4, generator=generator) for m in DIMS
    }
    fusion.fit_head(features, None, label)
    assert (fusion(features).argmax(dim=1) == label).double().mean() > 0.95
    binary = PaddedFusion(DIMS, 2)
    binary.fit_head(features, None, (label > 0).long())
    assert (binary(features).argmax(dim=1) == (label > 0)).double().mean() > 0.9


def test_invariant_features_need_features_of_equal_width():
    with pytest.raises(ConfigError, match="one map for all modalities"):
        InvariantCodes({"audio": 4, "text": 5}, 3)


def test_tate_attends_to_steps_and_not_to_padding():
    torch.manual_seed(0)
    fusion = Tagged(DIMS, 3, width=12).eval()
    features = {
        "audio": torch.randn(2, 5, 4),
        "image": torch.randn(2, 3, 4),
        "text": torch.randn(2, 4),
    }
    tokens, is_token = fusion.tokens_of(features)
    assert tokens.shape == (2, 9, fusion.tagged_width)
    assert is_token.all()
    logits = fusion(features)
    padded = {**features, "audio": torch.cat([features["audio"], torch.zeros(2, 4, 4)], dim=1)}
    torch.testing.assert_close(fusion(padded), logits)
    longer = {**features, "audio": torch.cat([features["audio"], torch.ones(2, 1, 4)], dim=1)}
    assert (fusion(longer) - logits).abs().max() > 1e-3
    one_step = {name: x[:, :1] if x.ndim == 3 else x for name, x in features.items()}
    vectors = {name: x.reshape(2, 4) for name, x in one_step.items()}
    torch.testing.assert_close(fusion(one_step), fusion(vectors))


def test_an_absent_sequence_is_one_zero_token_whatever_it_holds():
    torch.manual_seed(0)
    fusion = Tagged(DIMS, 3, width=12).eval()
    features = {name: torch.randn(2, 5, 4) for name in DIMS}
    present = {name: torch.tensor([True, name != "audio"]) for name in DIMS}
    _, is_token = fusion.tokens_of(features, present)
    assert is_token[1, :5].tolist() == [True, False, False, False, False]
    poisoned = {**features, "audio": features["audio"].clone()}
    poisoned["audio"][1] = float("nan")
    assert torch.equal(fusion(poisoned, present), fusion(features, present))
    assert fusion(features, present).isfinite().all()
